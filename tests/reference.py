"""A second reader of JSON and packets, slow and plain, after RFC 8259 and docs/protocol.md alone."""

import re
from typing import Any, Final

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS: Final = {"true": True, "false": False, "null": None}
_ESCAPES: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_MAX_DEPTH: Final = 32
_MAX_DIGITS: Final = 4_300


class Wrong(Exception):
    """It is not to be taken."""


def parse_packet(body: bytes) -> tuple[int, str, float, str]:
    """Return sequence, data, timestamp and stream, or raise Wrong."""
    packet = parse_json(body)
    _need(isinstance(packet, dict))
    _need({"sequence", "data", "timestamp"} <= packet.keys() <= {"sequence", "data", "timestamp", "stream"})
    sequence, data, timestamp = packet["sequence"], packet["data"], packet["timestamp"]
    stream = packet.get("stream", "")
    _need(type(sequence) is int and 0 <= sequence < 2**63)
    _need(type(data) is str and len(data) <= 262_144)
    _need(type(timestamp) in (int, float) and 0 <= timestamp <= 4_102_444_800)
    _need(type(stream) is str and len(stream) <= 128)
    return sequence, data, float(timestamp), stream


def parse_json(body: bytes) -> Any:
    """Return the value in *body*, or raise Wrong; numbers may be infinite, as 1e400 is."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong from None
    value, end = _parse(text, _skip(text, 0), 0)
    _need(_skip(text, end) == len(text))
    return value


def _parse(text: str, at: int, depth: int) -> tuple[Any, int]:
    _need(depth <= _MAX_DEPTH)
    match text[at : at + 1]:
        case "{":
            return _parse_object(text, at, depth + 1)
        case "[":
            return _parse_array(text, at, depth + 1)
        case '"':
            return _parse_string(text, at)
    for word, value in _WORDS.items():
        if text.startswith(word, at):
            return value, at + len(word)
    return _parse_number(text, at)


def _parse_object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    _need(depth <= _MAX_DEPTH)
    found: dict[str, Any] = {}
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return found, at + 1
    while True:
        _need(text[at : at + 1] == '"')
        key, at = _parse_string(text, at)
        at = _skip(text, at)
        _need(text[at : at + 1] == ":" and key not in found)
        found[key], at = _parse(text, _skip(text, at + 1), depth)
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return found, at + 1
        _need(text[at : at + 1] == ",")
        at = _skip(text, at + 1)


def _parse_array(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    _need(depth <= _MAX_DEPTH)
    found: list[Any] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return found, at + 1
    while True:
        item, at = _parse(text, at, depth)
        found.append(item)
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return found, at + 1
        _need(text[at : at + 1] == ",")
        at = _skip(text, at + 1)


def _parse_string(text: str, at: int) -> tuple[str, int]:
    units: list[int] = []  # of UTF-16, of which escapes are made
    at += 1
    while (mark := text[at : at + 1]) != '"':
        _need(mark >= " ")
        if mark != "\\":
            units += _units(mark)
            at += 1
        elif text[at + 1 : at + 2] == "u":
            digits = text[at + 2 : at + 6]
            _need(re.fullmatch("[0-9a-fA-F]{4}", digits) is not None)
            units.append(int(digits, 16))
            at += 6
        else:
            escaped = _ESCAPES.get(text[at + 1 : at + 2])
            if escaped is None:
                raise Wrong
            units += _units(escaped)
            at += 2
    try:
        found = b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le")
    except UnicodeDecodeError:
        raise Wrong from None
    _need("\x00" not in found)
    return found, at + 1


def _parse_number(text: str, at: int) -> tuple[int | float, int]:
    found = _NUMBER.match(text, at)
    if found is None:
        raise Wrong
    if found[1] is None and found[2] is None:
        _need(len(found[0].lstrip("-")) <= _MAX_DIGITS)
        return int(found[0]), found.end()
    return float(found[0]), found.end()


def _units(mark: str) -> list[int]:
    raw = mark.encode("utf-16-le")
    return [int.from_bytes(raw[at : at + 2], "little") for at in range(0, len(raw), 2)]


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _need(claim: bool) -> None:
    if not claim:
        raise Wrong
