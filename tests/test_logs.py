"""How records are written: with their call, without secrets, in one line of JSON for programs."""

import io
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from callactors.access import make_key
from callactors.actors import Actor, ActorRegistry, Envelope
from callactors.logs import CallLog, HumanFormatter, JsonFormatter, about, set_up_logs

LOG = logging.getLogger("callactors.scene")


def record(text: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    return logging.LogRecord("x.y", logging.INFO, "x", 1, text, arguments, sys.exc_info() if error else None)


def read(told: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(told)
    assert "\n" not in line
    read: dict[str, Any] = json.loads(line)
    return read


def test_a_record_is_an_object_in_one_line() -> None:
    told = record("two\nlines of %s", "text")
    assert read(told) == {
        "time": datetime.fromtimestamp(told.created, UTC).isoformat(timespec="milliseconds"),
        "level": "INFO",
        "logger": "x.y",
        "message": "two\nlines of text",
    }


def test_an_exception_is_told_as_text() -> None:
    try:
        raise ValueError("no use")
    except ValueError:
        told = read(record("failed", error=True))
    assert told["exception"].startswith("Traceback")
    assert told["exception"].endswith("ValueError: no use")


@pytest.mark.parametrize("formatter", [HumanFormatter(), JsonFormatter()])
def test_no_secret_of_a_key_gets_into_the_log(formatter: logging.Formatter) -> None:
    key = make_key()
    try:
        raise ValueError(key.text)
    except ValueError:
        told = formatter.format(record("GET /v1/media/%s?key=%s", key.text, key.text, error=True))
    assert key.text not in told
    assert told.count(f"ca_{key.key_id}_***") == 3


@pytest.mark.parametrize("call_id", ["c-1", "100%s"])
def test_what_concerns_a_call_says_so_in_its_text_and_in_a_field(
    caplog: pytest.LogCaptureFixture, call_id: str
) -> None:
    CallLog(LOG, call_id).warning("gap before %d", 5)
    (told,) = caplog.records
    assert read(told)["message"] == f"call {call_id}: gap before 5"
    assert read(told)["call_id"] == call_id
    assert told.filename == "test_logs.py"


def test_what_concerns_no_call_names_none(caplog: pytest.LogCaptureFixture) -> None:
    about(LOG, None).warning("nothing")
    assert "call_id" not in read(caplog.records[0])


class Failing(Actor[str, str]):
    """Does nothing right."""

    async def receive(self, envelope: Envelope[str]) -> None:
        raise ValueError(envelope.message)


async def test_an_actor_that_fails_is_named_in_a_field(caplog: pytest.LogCaptureFixture) -> None:
    registry: ActorRegistry[str, str] = ActorRegistry(Failing, key_name="call_id")
    with pytest.raises(Exception, match="failed"):
        await registry.ask("c", "message")
    await registry.stop(timeout=5)
    assert [read(told)["call_id"] for told in caplog.records] == ["c"]


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("chosen", "stream", "is_json"),
    [
        ("auto", Terminal, False),
        ("auto", io.StringIO, True),
        ("json", Terminal, True),
        ("human", io.StringIO, False),
    ],
)
def test_people_at_a_terminal_read_text_and_programs_json(
    monkeypatch: pytest.MonkeyPatch, chosen: Any, stream: type[io.StringIO], is_json: bool
) -> None:
    root, out = logging.getLogger(), stream()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(sys, "stderr", out)
    set_up_logs(chosen, "warning")
    LOG.warning("seen")
    LOG.info("not seen")
    (line,) = out.getvalue().splitlines()
    assert line.startswith("{") is is_json
    assert "seen" in line
