"""The commands `simulate` and `replay`: what they print, their exit codes, and what they refuse."""

import asyncio
import io
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from signal import SIG_DFL, SIGINT, signal

import pytest

from callactors import cli
from callactors.simulate import command
from callactors.simulate.calls import Report
from callactors.simulate.command import Finished, run_replay, run_simulate
from tests.phone_server import PhoneServer, serving

NOWHERE = "http://127.0.0.1:1"


async def run(*arguments: str | Path) -> Finished:
    """Run the command with *arguments* in this process."""
    options = cli._parser().parse_args(list(map(str, arguments)))
    return await {"simulate": run_simulate, "replay": run_replay}[options.command](options)


@pytest.mark.parametrize("vendor", ["exotel", "asterisk"])
async def test_a_simulation_that_agrees_ends_with_0(vendor: str) -> None:
    async with serving(PhoneServer()) as url:
        finished = await run(
            "simulate", "--vendor", vendor, "--calls", "2", "--seconds", "0.1", "--ramp", "0", url
        )
    head, row, *_ = finished.text.splitlines()
    assert head.split("  ")[0].strip() == "calls"
    assert row.split()[0] == "2"
    assert finished.code == 0


async def test_json_is_one_line_of_figures() -> None:
    phone = PhoneServer()
    phone.forgets = 1
    async with serving(phone) as url:
        finished = await run("simulate", "--seconds", "0.1", "--patience", "0", "--seed", "5", "--json", url)
    assert finished.code == 1
    told = json.loads(finished.text)
    known = {name: told[name] for name in ("calls", "packets", "seed", "mismatches", "agrees", "refused")}
    assert known == {"calls": 1, "packets": 9, "seed": 5, "mismatches": 2, "agrees": False, "refused": 0}
    assert [difference["what"] for difference in told["differences"]] == ["packets", "missing"]
    assert "\n" not in finished.text


async def test_a_server_that_is_not_there_is_told() -> None:
    finished = await run("simulate", "--calls", "2", "--ramp", "0", NOWHERE)
    assert "refused, 2 times: Connect call failed" in finished.text
    assert finished.code == 1


async def test_differences_are_told_up_to_a_limit() -> None:
    phone = PhoneServer()
    phone.forgets = 1
    async with serving(phone) as url:
        options = ("--calls", "8", "--ramp", "0", "--seconds", "0", "--patience", "0")
        finished = await run("simulate", *options, url)
    assert "packets should be 3, but is 2" in finished.text
    assert finished.text.endswith("and 6 more")


async def test_what_is_recorded_is_replayed(tmp_path: Path) -> None:
    file, phone = tmp_path / "capture.jsonl", PhoneServer()
    async with serving(phone) as url:
        assert (await run("simulate", "--seconds", "0.1", "--record", file, url)).code == 0
        finished = await run("replay", "--speed", "max", file, url)
    assert finished == Finished("10 messages were sent on 1 connections", 0)
    assert phone.heard[0].messages == phone.heard[1].messages


async def test_a_replay_that_is_refused_ends_with_1(tmp_path: Path) -> None:
    file = tmp_path / "capture.jsonl"
    file.write_text('{"at":0,"connection":"a","path":"/elsewhere","text":""}\n')
    async with serving(PhoneServer()) as url:
        finished = await run("replay", file, url)
    assert finished.code == 1
    assert "refused, 1 times: HTTP status 404" in finished.text


@pytest.mark.parametrize("option", ["--loss", "--reorder", "--duplicate"])
def test_binary_vendors_have_no_trouble_that_could_not_be_seen(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", "--vendor", "vonage", option, "0.1", NOWHERE]) == 2
    assert "vonage does not number its messages" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"{}", "line 1: "),
        (b"", "line 1: nothing was captured"),
        (b"\xff", "not UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_wrong_usage(
    content: bytes | None, phrase: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "capture.jsonl"
    if content is not None:
        file.write_bytes(content)
    assert cli.main(["replay", str(file), NOWHERE]) == 2
    told = capsys.readouterr().err
    assert phrase in told
    assert str(file) in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["--calls", "0"],
        ["--calls", "1.5"],
        ["--calls", "x"],
        ["--seconds", "-1"],
        ["--seconds", "nan"],
        ["--loss", "1.1"],
        ["--vendor", "nobody"],
        ["--seed", "x"],
    ],
)
def test_wrong_arguments_are_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["simulate", *arguments, NOWHERE])
    assert f"argument {arguments[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ws://x", "http://", "http://x:0", "http://x:y", "http://x?a", "http://a:b@x"]
)
def test_a_wrong_address_is_wrong_usage(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["simulate", url])
    assert "write the server's address as" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("out", "told"), [(Terminal(), "3 calls are open"), (io.StringIO(), "")])
async def test_progress_is_told_to_who_looks_at_it(out: io.StringIO, told: str) -> None:
    async with command._progress(Report(open_calls=3), out):
        await asyncio.sleep(0)
    assert told in out.getvalue()
    assert bool(out.getvalue()) == bool(told)


def heed_ctrl_c() -> None:
    """What a shell has put into the background is told to ignore it, and so is all that it starts."""
    signal(SIGINT, SIG_DFL)


async def test_ctrl_c_ends_cleanly() -> None:
    phone = PhoneServer()
    async with serving(phone) as url:
        words = (sys.executable, "-m", "callactors", "simulate", "--seconds", "600", url)
        process = await asyncio.create_subprocess_exec(
            *words, stdout=PIPE, stderr=PIPE, preexec_fn=heed_ctrl_c
        )
        await phone.has_heard.wait()
        process.send_signal(SIGINT)
        out, error = await process.communicate()
    assert (process.returncode, out, error) == (130, b"", b"")
