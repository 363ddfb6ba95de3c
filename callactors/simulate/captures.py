"""Files of what was sent on connections, as JSON Lines, to be played again.

Each line is of one connection, and is done *at* seconds after the start of the first line:

{"at": 0, "connection": "a", "path": "/v1/media", "text": "..."}
{"at": 0.02, "connection": "a", "binary": "<base64>"}
{"at": 1.5, "connection": "a", "close": 1000}

The first line of a connection names its path, without a key, and may name a `subprotocol` to be offered. A
close with 1006 stands for a connection that broke off. One without a close is closed after its last line.
"""

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final, NamedTuple, TextIO

from callactors.simulate.actions import Action, Close, Cut, Lose, Send

_BROKEN_OFF: Final = 1006  # never sent on the wire (RFC 6455, 7.4.1)
_KEYS: Final = frozenset({"at", "connection", "path", "subprotocol", "text", "binary", "close"})
_DOES: Final = ("text", "binary", "close")


class WrongCapture(Exception):
    """A file is no capture; the text says where, and what is wrong."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(f"line {line}: {detail}")


class Captured(NamedTuple):
    """What happened on one connection; times are reckoned from the start of the file."""

    path: str
    subprotocol: str | None
    actions: list[Action]


def read_capture(lines: Iterable[str]) -> dict[str, Captured]:
    """Return the connections in *lines* by their names, in the order in which they are opened.

    Raises:
        WrongCapture: a line is not as it should be, or there is none.
    """
    connections: dict[str, Captured] = {}
    number, last = 0, 0.0
    for number, line in enumerate(lines, 1):
        try:
            last = _read_line(line, last, connections)
        except _Wrong as error:
            raise WrongCapture(number, str(error)) from None
    if not connections:
        raise WrongCapture(max(number, 1), "nothing was captured")
    for captured in connections.values():
        if not isinstance(captured.actions[-1], Close | Cut):
            captured.actions.append(Close(captured.actions[-1].at))
    return connections


class Recorder:
    """Writes to *file* what is done in calls, each on a connection to *path* of its own."""

    def __init__(
        self, file: TextIO, path: str, subprotocol: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._file = file
        self._first = {"path": path} | ({} if subprotocol is None else {"subprotocol": subprotocol})
        self._clock = clock
        self._start: float | None = None
        self._known: set[int] = set()

    def record(self, number: int, action: Action) -> None:
        """Write that *action* was done in the call *number* just now."""
        if isinstance(action, Lose):
            return
        now = self._clock()
        if self._start is None:
            self._start = now
        head = {} if number in self._known else self._first
        self._known.add(number)
        line = {"at": round(now - self._start, 4), "connection": f"{number + 1}", **head, **_describe(action)}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


def _describe(action: Send | Close | Cut) -> dict[str, str | int]:
    match action:
        case Send(_, str(text)):
            return {"text": text}
        case Send(_, bytes(audio)):
            return {"binary": base64.b64encode(audio).decode()}
        case Close(_, code):
            return {"close": code}
        case _:
            return {"close": _BROKEN_OFF}


class _Wrong(Exception):
    pass


def _read_line(line: str, last: float, connections: dict[str, Captured]) -> float:
    """Add what *line* says to *connections*, and return its time, which is not before *last*."""
    fields = _read_object(line)
    if not isinstance(name := fields.get("connection"), str) or not name:
        raise _Wrong('"connection" must be the name of a connection')
    at = fields.get("at")
    if isinstance(at, bool) or not isinstance(at, int | float) or not last <= at < inf:
        raise _Wrong('"at" must be seconds, and not before the line above')
    action = _read_action(fields, float(at))
    if name not in connections:
        connections[name] = Captured(*_read_address(fields), [action])
        return float(at)
    captured = connections[name]
    if isinstance(captured.actions[-1], Close | Cut):
        raise _Wrong("this connection was closed in a line above")
    if (fields.get("path", captured.path), fields.get("subprotocol", captured.subprotocol)) != captured[:2]:
        raise _Wrong("this connection has another path or subprotocol in a line above")
    captured.actions.append(action)
    return float(at)


def _read_object(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line, object_pairs_hook=_make_object)
    except json.JSONDecodeError as error:
        raise _Wrong(f"no JSON: {error.msg.lower()} at column {error.colno}") from None
    except (RecursionError, ValueError):
        raise _Wrong("no JSON that can be read") from None
    if not isinstance(fields, dict):
        raise _Wrong("must be a JSON object")
    if unknown := sorted(fields.keys() - _KEYS):
        raise _Wrong(f"has keys that mean nothing: {', '.join(map(repr, unknown))}")
    return fields


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Wrong("has a key twice")
    return made


def _read_address(fields: dict[str, Any]) -> tuple[str, str | None]:
    path, subprotocol = fields.get("path"), fields.get("subprotocol")
    if not isinstance(path, str) or not path.startswith("/") or path.startswith("//"):
        raise _Wrong('the first line of a connection needs a "path" that begins with one /')
    if not isinstance(subprotocol, str | None):
        raise _Wrong('"subprotocol" must be text')
    return path, subprotocol


def _read_action(fields: dict[str, Any], at: float) -> Action:
    done = [key for key in _DOES if key in fields]
    if len(done) != 1:
        raise _Wrong('needs one of "text", "binary" and "close"')
    match done[0], fields[done[0]]:
        case "text", str(text):
            return Send(at, text)
        case "binary", str(text):
            try:
                return Send(at, base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                raise _Wrong('"binary" must be base64') from None
        case "close", int(code) if code == _BROKEN_OFF:
            return Cut(at)
        case "close", int(code) if 1000 <= code < 5000 and code not in (1004, 1005, 1015):
            return Close(at, code)
        case "close", _:
            raise _Wrong('"close" must be a close code from 1000 to 4999')
    raise _Wrong(f'"{done[0]}" must be text')
