"""What hostile clients send, by kind. Pure: a script yields steps, `rabble` takes them."""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from itertools import repeat
from random import Random
from typing import Final, NamedTuple, TypeAlias


class Wait(Enum):
    """Until what a client waits."""

    ANSWER = auto()
    EVER = auto()


Step: TypeAlias = bytes | float | Wait
"""Bytes to send, seconds to wait, or until what."""
Script: TypeAlias = Callable[[Random], Iterator[Step]]
"""What one connection does; at its end, or when it is cut, the client resets it and makes another."""


class Kind(NamedTuple):
    """Clients of one kind, which take the scripts in turn; *together* requests or frames are in one send."""

    clients: int
    scripts: tuple[Script, ...]
    is_reading: bool = True
    together: int = 1


_DATA: Final = "8" * 216
_PACKET: Final = json.dumps({"sequence": 1, "data": _DATA, "timestamp": 1700000000.25}).encode()
_STREAM: Final = "/v1/call/stream/hostile"
_WRONG_KEY: Final = f"Authorization: Bearer ca_{'0' * 12}_{'A' * 43}"
_FOREIGN: Final = "Origin: https://elsewhere.example"
_UPGRADE: Final = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
)
_DRIP: Final = (0.1, 0.4)  # seconds between two bytes
_SNAPSHOT_INTERVAL: Final = 0.12  # of what one supervisor asks: less often than it is closed for
_TOGETHER: Final = 64  # requests or frames that are sent at once
_TEXT, _PING = 0x1, 0x9  # opcodes, RFC 6455, 5.2


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a whole request; its body, if it has one, is called JSON."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Return a client's frame of up to 125 bytes, with a mask of zeros, which changes nothing."""
    return bytes((0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def _open(path: str) -> bytes:
    return request("GET", path, *_UPGRADE)


_FLOODS: Final[Mapping[str, bytes]] = {
    "no JSON": request("POST", _STREAM, body=b'{"sequence": 1, "data": '),
    "wrong types": request("POST", _STREAM, body=b'{"sequence":"one","data":7,"timestamp":null}'),
    "no such path": request("GET", "/v1/nothing/here"),
    "wrong method": request("DELETE", _STREAM),
    "wrong key": request("POST", _STREAM, _WRONG_KEY, body=_PACKET),
    "socket to nowhere": _open("/ws/nowhere"),
    "foreign origin": request("POST", _STREAM, _FOREIGN, body=_PACKET),
}
_COMPRESSED: Final = tuple(
    request("POST", _STREAM, "Content-Encoding: gzip", body=gzip.compress(body))
    for body in (_PACKET, b" " * 1024 * 1024)
)
_CHUNKED: Final = request("POST", _STREAM, "Content-Type: application/json", "Transfer-Encoding: chunked")
_BROKEN: Final[Mapping[str, bytes]] = {
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(range(197)),
    "bad chunk": _CHUNKED + b"zz\r\n{}\r\n",
    "two lengths": request("POST", _STREAM, "Content-Length: 5", body=_PACKET),
    "length and chunks": request("POST", _STREAM, "Transfer-Encoding: chunked", body=_PACKET),
    "huge header": request("GET", "/health", "X-Long: " + "a" * 100_000),
    "many headers": request("GET", "/health", *(f"X-{number}: a" for number in range(1_000))),
}
_JUNK_FRAMES: Final = (b"{}", b"[]", b'{"type":"nonsense"}', b'{"sequence":"one"}', b"no JSON")
_JUNK_MESSAGES: Final = (b'{"type":"nonsense"}', b"{}", b'{"type":7}')


def _repeating(data: bytes) -> Script:
    """A script that sends *data* again and again, each time it is answered."""

    def script(_: Random) -> Iterator[Step]:
        for sent in repeat(data):
            yield sent
            yield Wait.ANSWER

    return script


def _dripping(data: bytes, *, whole: int = 0) -> Script:
    """A script that sends the first *whole* bytes at once and the others one by one."""

    def script(rng: Random) -> Iterator[Step]:
        if whole:
            yield data[:whole]
        for number in range(whole, len(data)):
            yield rng.uniform(*_DRIP)
            yield data[number : number + 1]
        yield Wait.EVER

    return script


def _dripping_bodies() -> Iterator[Script]:
    yield _dripping(request("POST", _STREAM, "X-Long: " + "a" * 1_000, body=_PACKET))
    post = request("POST", _STREAM, body=_PACKET)
    yield _dripping(post, whole=len(post) - len(_PACKET))
    lines = request("POST", _STREAM, "Content-Type: application/x-ndjson", "Content-Length: 1000000")
    yield _dripping(lines + _PACKET, whole=len(lines))


def _silent(_: Random) -> Iterator[Step]:
    yield Wait.EVER


def _random_bytes(rng: Random) -> Iterator[Step]:
    yield rng.randbytes(rng.randrange(1, 4_096))
    yield Wait.ANSWER


def _reset(_: Random) -> Iterator[Step]:
    yield b""


def _reset_in_a_head(rng: Random) -> Iterator[Step]:
    whole = request("POST", _STREAM, body=_PACKET)
    yield whole[: rng.randrange(1, len(whole))]


def _reset_before_an_answer(_: Random) -> Iterator[Step]:
    yield request("GET", "/v1/calls")


def _snapshots(_: Random) -> Iterator[Step]:
    yield _open("/ws/supervisor?snapshot=1")
    while True:
        yield _SNAPSHOT_INTERVAL
        yield frame(b'{"type":"subscribe","snapshot":true}')


def _messages(rng: Random) -> Iterator[Step]:
    yield _open("/ws/supervisor")
    yield Wait.ANSWER
    while True:
        yield frame(rng.choice(_JUNK_MESSAGES))
        yield 0.01


def _pings(_: Random) -> Iterator[Step]:
    yield _open("/ws/supervisor")
    yield Wait.ANSWER
    while True:
        yield frame(b"are you there?", _PING) * _TOGETHER
        yield Wait.ANSWER


def _frames(rng: Random) -> Iterator[Step]:
    yield _open(_STREAM)
    while True:
        yield b"".join([frame(rng.choice(_JUNK_FRAMES)) for _ in range(_TOGETHER)])


KINDS: Final[Mapping[str, Kind]] = {
    "drips": Kind(150, tuple(_dripping_bodies())),
    "silent": Kind(1_000, (_silent,)),
    "garbage": Kind(28, (_random_bytes, *map(_repeating, _BROKEN.values()))),
    "floods": Kind(28, tuple(map(_repeating, _FLOODS.values()))),
    "pipelines": Kind(
        7, tuple(_repeating(data * _TOGETHER) for data in _FLOODS.values()), together=_TOGETHER
    ),
    "churn": Kind(12, (_reset, _reset_in_a_head, _reset_before_an_answer)),
    "snapshots": Kind(20, (_snapshots,), is_reading=False),
    "messages": Kind(10, (_messages,)),
    "pings": Kind(4, (_pings,), together=_TOGETHER),
    "frames": Kind(10, (_frames,), is_reading=False, together=_TOGETHER),
    "compressed": Kind(8, tuple(map(_repeating, _COMPRESSED))),
}
