"""What docs/telephony.md says is so: snippets can be read, words are the code's, commands work."""

import configparser
import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors import cli
from callactors.call import WITHOUT_AI
from callactors.packets import EndReason, PacketKind
from callactors.settings import Settings, read_settings
from callactors.simulate.command import Finished, run_replay, run_simulate
from callactors.simulate.dialects import DIALECTS
from callactors.vendors import words
from callactors.vendors.callbacks import VENDORS
from callactors.vendors.dialects import JSON_VENDORS
from callactors.vendors.extra_signatures import VERIFIERS
from callactors.vendors.fields import keep_base64, keep_digit
from callactors.vendors.preamble import PREAMBLE_VENDORS
from callactors.vendors.steps import MAX_METADATA
from callactors.web import media
from callactors.web.routes import ROUTES
from tests.media_scenes import start_with
from tests.pages import PAGES, SERVER, blocks, read
from tests.scenes import Sql, until_state

_PAGE = "docs/telephony.md"
_TEXT = read(_PAGE)


def _blocks(kind: str) -> list[str]:
    return [block.text for block in blocks(kind, page=_PAGE)]


def _table(head: str) -> list[list[str]]:
    """Return the rows of the table whose head begins so."""
    (found,) = re.findall(rf"^\| {head} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", _TEXT, re.MULTILINE)
    return [line.strip("| ").split(" | ") for line in found.splitlines()]


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _commands(text: str, *names: str) -> list[list[str]]:
    lines = [line.removeprefix(".venv/bin/") for line in text.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(names)]


_SIMULATIONS = [
    words for text in (_TEXT, read("README.md")) for words in _commands(text, "callactors simulate ")
]


@pytest.mark.parametrize("vendor", [*JSON_VENDORS, *PREAMBLE_VENDORS, *VENDORS, *VERIFIERS, *DIALECTS])
def test_every_vendor_is_there(vendor: str) -> None:
    assert vendor in _TEXT


def test_a_vendor_that_signs_is_in_the_table_of_secrets() -> None:
    assert {name for row in _table(r"vendor \| secret") for name in _names(row[0])} == set(VERIFIERS)


def test_the_end_reasons_are_those_of_the_code() -> None:
    told = {EndReason(name): row[2] for row in _table("event") for name in _names(row[1]) if name != "reason"}
    assert told.keys() == set(EndReason)
    assert {reason for reason, when in told.items() if re.match("only if|likewise|no", when)} == WITHOUT_AI


def _ends(vendor: str) -> dict[str, str]:
    """Return the table's words of a vendor, with what follows from each."""
    (row,) = [row for row in _table(r"vendor \| its words") if row[0].startswith(vendor)]
    groups, reasons = row[1].split(";"), _names(row[2])
    assert len(groups) == len(reasons)
    return {word: reason for group, reason in zip(groups, reasons, strict=True) for word in _names(group)}


def test_the_vendors_words_are_those_of_the_code() -> None:
    assert _ends("Twilio") == words.TWILIO_ENDS
    assert {**_ends("Twilio"), **_ends("Plivo")} == words.PLIVO_ENDS
    assert _ends("Telnyx") == words.TELNYX_CAUSES
    assert _ends("Vonage") == words.VONAGE_ENDS


def test_the_kinds_of_packets_are_those_of_the_code() -> None:
    told = {PacketKind(name): row[2] == "yes" for row in _table("`kind`") for name in _names(row[0])}
    assert told == {kind: kind.is_content for kind in PacketKind}


def test_data_has_the_forms_that_are_told() -> None:
    assert f"`{keep_digit('2', '100', 'inbound_track')}`" in _TEXT
    for track in (None, "inbound"):
        stored = keep_base64("AAAA", track, store_media=True)
        kept = re.sub(r"[0-9a-f]{64}", "…", keep_base64("AAAA", track, store_media=False))
        assert f"`{kept.replace(':3,', ':160,')}`" in _TEXT
        assert track is None or f"`{stored.replace('AAAA', '…')}`" in _TEXT


def test_limits_and_times_are_those_of_the_code() -> None:
    fields = Settings.model_fields
    times = [fields[name].default for name in ("drop_timeout", "call_idle_timeout", "max_call_duration")]
    assert times == [30, 3_600, 86_400]
    for told in ("(30 s)", "(1 h)", "(24 h)", f"{MAX_METADATA:,} characters"):
        assert told in _TEXT
    assert f"`no start came within {media._START_TIMEOUT:g} s`" in _TEXT
    assert f"`{media._SHUTDOWN[1]}`" in _TEXT


@pytest.mark.parametrize("page", ["CHANGELOG.md", *PAGES])
def test_every_setting_that_is_named_exists(page: str) -> None:
    told = set(re.findall(r"\bCALLACTORS_([A-Z][A-Z_]*[A-Z])\b", read(page))) - {"FUZZ", "PG_BIN"}
    assert told <= {name.upper() for name in Settings.model_fields}


def test_every_path_that_is_named_exists() -> None:
    told = set(
        re.findall(r"(?<![a-z0-9])/v1/[A-Za-z_/{}-]+", re.sub(r"https://api\.[a-z]+\.com\S*", "", _TEXT))
    )
    assert len(told) > 10
    patterns = [re.compile(re.sub(r"{\w+}", "[^/]+", route.path) + "/?") for route in ROUTES]
    assert [path for path in told if not any(pattern.fullmatch(path) for pattern in patterns)] == []


@pytest.mark.parametrize("text", _blocks("xml"))
def test_markup_can_be_read(text: str) -> None:
    (stream,) = ElementTree.fromstring(text).iter("Stream")
    url = stream.get("url") or (stream.text or "").strip()
    assert url in ("wss://HOST/v1/media/KEY", "wss://HOST/v1/media")
    assert "/KEY" in url or stream.get("authBearerToken") == "KEY"


def test_the_metadata_of_freeswitch_name_the_call() -> None:
    ((command,),) = [
        re.findall(r"^uuid_audio_fork UUID start .*$", text, re.MULTILINE)
        for text in _blocks("")
        if "uuid_audio_fork" in text
    ]
    assert json.loads(command.split(maxsplit=6)[-1]) == {
        "uuid": "UUID",
        "sampleRate": 8_000,
        "mixType": "mono",
    }


def test_the_connection_of_asterisk_can_be_read() -> None:
    connection, dialplan = _blocks("ini")
    parser = configparser.ConfigParser()
    parser.read_string(connection)
    assert parser["callactors"]["protocols"] == "media"
    assert "WebSocket/callactors/c(ulaw)v(call_id=" in dialplan


def test_the_settings_of_the_example_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ((*variables, command, what),) = [
        line for text in _blocks("sh") for line in _commands(text, "CALLACTORS_")
    ]
    assert (command, what) == ("callactors", "serve")
    for variable in variables:
        monkeypatch.setenv(*variable.split("=", 1))
    settings = read_settings({})
    secrets = [(vendor, secret.get_secret_value()) for vendor, secret in settings.vendor_secrets]
    assert secrets == [("twilio", "AUTHTOKEN"), ("telnyx", "PUBLICKEY")]
    assert settings.public_url == "https://calls.example"


async def _run(words: list[str], client: TestClient, *more: str) -> Finished:  # type: ignore[type-arg]
    url = str(client.make_url("")).rstrip("/")
    arguments = [url if word == SERVER else word for word in words[1:]]
    options = cli._parser().parse_args([*arguments, *more])
    return await {"simulate": run_simulate, "replay": run_replay}[options.command](options)


@pytest.mark.parametrize("words", _SIMULATIONS, ids=" ".join)
async def test_the_simulations_agree(
    words: list[str],
    dsn: str,
    aiohttp_client: AiohttpClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    client = await start_with(dsn, aiohttp_client)()
    finished = await _run(words, client, "--seconds", "0.5", "--ramp", "0")
    assert finished.code == 0, finished.text
    (columns,) = re.findall(r"^ *calls  messages .*$", _TEXT, re.MULTILINE)
    assert finished.text.splitlines()[0].split() == columns.split()


async def test_the_capture_is_replayed(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (capture,) = _blocks("jsonl")
    (words,) = _commands(_TEXT, "callactors replay ")
    Path("call.jsonl").write_text(capture, encoding="utf-8")
    client = await start_with(dsn, aiohttp_client)()
    finished = await _run(words, client)
    assert finished == Finished("4 messages were sent on 1 connections", 0)
    await until_state(sql, "CA1", "ARCHIVED")
    told = await (await client.get("/v1/call/CA1")).json()
    assert (told["end_reason"], told["packets"]) == ("stream_stopped", 3)


async def test_the_callback_is_on_the_timeline_as_told(dsn: str, aiohttp_client: AiohttpClient) -> None:
    client = await start_with(dsn, aiohttp_client)()
    (_, _, _, form, address), (_, _, asked) = _commands(_TEXT, "curl ")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post(address.removeprefix(SERVER), data=form, headers=headers)
    assert answer.status == 204
    events = (await (await client.get(asked.removeprefix(SERVER))).json())["events"]
    (wanted,) = [event for text in _blocks("json") if (event := json.loads(text)) and "kind" in event]
    (found,) = [event for event in events if event["kind"] == "status"]
    del found["cursor"], found["at"], wanted["at"]
    assert found == wanted
    assert events[-1]["state"] == "FAILED"
    assert events[-1]["end_reason"] == "busy"
