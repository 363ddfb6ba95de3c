"""What goes between the server and the processes that recognise speech: the audio of a call, and its result.

A message is a kind, its size, and a body. Answers are a size and JSON.
"""

import json
from struct import Struct
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

from callactors.processors.waveforms import Format

_HEAD: Final = Struct("<cI")
_PIECE: Final = Struct("<dB")
SIZE: Final = Struct("<I")
"""What stands before the JSON of an answer."""

_BEGIN: Final = b"b"
_AUDIO: Final = b"a"
_END: Final = b"e"


class BeginAudio(NamedTuple):
    """A stream begins; its pieces follow."""

    stream: str
    format: Format


class Piece(NamedTuple):
    """A piece of a track of the stream, *at* seconds by the packet's own timestamp."""

    track: str
    at: float
    payload: bytes


class EndAudio(NamedTuple):
    """The call is over: what became of it is wanted."""


SpeechMessage: TypeAlias = BeginAudio | Piece | EndAudio


def pack_message(message: SpeechMessage) -> bytes:
    """Return the bytes of *message*."""
    match message:
        case Piece(track, at, payload):
            name = track.encode()[:255]
            body = _PIECE.pack(at, len(name)) + name + payload
            return _HEAD.pack(_AUDIO, len(body)) + body
        case BeginAudio(stream, audio):
            body = json.dumps([stream, audio]).encode()
            return _HEAD.pack(_BEGIN, len(body)) + body
        case EndAudio():
            return _HEAD.pack(_END, 0)


def read_message(source: BinaryIO) -> SpeechMessage | None:
    """Return the next message, or None if the other side is gone."""
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, size = _HEAD.unpack(head)
    body = source.read(size)
    if len(body) < size:
        return None
    if kind == _AUDIO:
        at, length = _PIECE.unpack_from(body)
        start = _PIECE.size + length
        return Piece(body[_PIECE.size : start].decode(errors="replace"), at, body[start:])
    if kind == _BEGIN:
        stream, audio = json.loads(body)
        return BeginAudio(stream, Format(*audio))
    return EndAudio()


def pack_answer(answer: Any) -> bytes:
    """Return the bytes of *answer*."""
    body = json.dumps(answer).encode()
    return SIZE.pack(len(body)) + body
