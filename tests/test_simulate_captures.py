"""Captures are read strictly: what is wrong is told with its line. What is recorded can be read."""

import io
import json
from typing import Any

import pytest

from callactors.simulate.actions import Action, Close, Cut, Lose, Send
from callactors.simulate.captures import Captured, Recorder, WrongCapture, read_capture


def line(**other: Any) -> str:
    return json.dumps({"at": 0, "connection": "a", "path": "/v1/media", "text": "x"} | other)


def without(*names: str, **other: Any) -> str:
    return json.dumps({name: value for name, value in json.loads(line(**other)).items() if name not in names})


def test_each_connection_has_its_own_actions_in_order() -> None:
    read = read_capture(
        [
            line(),
            line(at=0.5, connection="b", path="/v1/media/binary", subprotocol="audio.jambonz.org"),
            without("text", at=1, connection="b", binary="AAE=", path="/v1/media/binary"),
            without("text", "path", at=2, close=4000),
            without("text", "path", at=2, connection="b", close=1006),
        ]
    )
    assert list(read.items()) == [
        ("a", Captured("/v1/media", None, [Send(0, "x"), Close(2, 4000)])),
        (
            "b",
            Captured("/v1/media/binary", "audio.jambonz.org", [Send(0.5, "x"), Send(1, b"\x00\x01"), Cut(2)]),
        ),
    ]


def test_a_connection_that_is_never_closed_is_closed_after_its_last_line() -> None:
    assert read_capture([line(), without("path", at=3)])["a"].actions[-1] == Close(3)


@pytest.mark.parametrize(
    ("wrong", "phrase"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "must be a JSON object"),
        ('{"at":0,"at":1}', "twice"),
        (line(sequence=1), "'sequence'"),
        (without("at"), '"at"'),
        (line(at="1"), '"at"'),
        (line(at=True), '"at"'),
        (line(at=-1), '"at"'),
        (line(at=float("nan")), '"at"'),
        (line(at=float("inf")), '"at"'),
        (without("connection"), '"connection"'),
        (line(connection=1), '"connection"'),
        (line(connection=""), '"connection"'),
        (line(connection="b", path="v1/media"), '"path"'),
        (line(connection="b", path="//elsewhere/v1/media"), '"path"'),
        (without("path", connection="b"), '"path"'),
        (line(connection="b", subprotocol=1), '"subprotocol"'),
        (line(path="/v1/other"), "another path"),
        (line(subprotocol="x"), "another path or subprotocol"),
        (without("text"), "needs one of"),
        (line(close=1000), "needs one of"),
        (line(text=1), '"text" must be text'),
        (without("text", binary="?"), "base64"),
        (without("text", binary="ä"), "base64"),
        (without("text", binary=1), '"binary" must be text'),
        (without("text", close=999), "close code"),
        (without("text", close=1005), "close code"),
        (without("text", close="1000"), "close code"),
        (without("text", close=True), "close code"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(wrong: str, phrase: str) -> None:
    with pytest.raises(WrongCapture, match=r"^line 2: ") as caught:
        read_capture([line(), wrong])
    assert phrase in str(caught.value)


def test_time_does_not_go_back() -> None:
    with pytest.raises(WrongCapture, match=r"line 2: .*before the line above"):
        read_capture([line(at=1), line(at=0.5)])


def test_nothing_follows_a_close() -> None:
    with pytest.raises(WrongCapture, match="line 3: this connection was closed"):
        read_capture([line(), without("text", close=1000), line()])


def test_an_empty_file_is_no_capture() -> None:
    with pytest.raises(WrongCapture, match="line 1: nothing was captured"):
        read_capture([])


def test_what_is_recorded_can_be_read() -> None:
    file, times = io.StringIO(), iter([10.0, 10.5, 11.0, 11.25, 12.0])
    recorder = Recorder(file, "/v1/media/binary", "audio.jambonz.org", lambda: next(times))
    done: list[tuple[int, Action]] = [
        (0, Send(0, "x")),
        (1, Send(0, "y", 1)),
        (0, Send(0, b"\x00", 2)),
        (1, Lose(0, 2)),
        (0, Close(0)),
        (1, Cut(0)),
    ]
    for number, action in done:
        recorder.record(number, action)
    address = ("/v1/media/binary", "audio.jambonz.org")
    assert read_capture(file.getvalue().splitlines()) == {
        "1": Captured(*address, [Send(0, "x"), Send(1, b"\x00"), Close(1.25)]),
        "2": Captured(*address, [Send(0.5, "y"), Cut(2)]),
    }
