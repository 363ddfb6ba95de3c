"""What is sent for one call from its start to its end, as a vendor would send it."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_OID, uuid5

from callactors.simulate.actions import Action, Close, Send
from callactors.simulate.audio import cut_up, make_speech
from callactors.simulate.dialects import DIALECTS, Dialect

_DTMF_AT: Final = 1 / 3  # of the call
_MARK_AT: Final = 2 / 3


class Ids(NamedTuple):
    """How a call and its one stream are named."""

    call: str
    stream: str


def make_ids(dialect: Dialect, run: str, number: int) -> Ids:
    """Return the ids of the call *number* of a *run*; the same ones each time."""
    call, stream = (uuid5(NAMESPACE_OID, f"callactors/{run}/{number}/{part}") for part in ("call", "stream"))
    return Ids(dialect.call.format(call), dialect.stream.format(stream))


def make_script(vendor: str, ids: Ids, seconds: float) -> Iterator[Action]:
    """Yield what *vendor* sends in a call that lasts so many *seconds*, at least one frame of audio."""
    dialect = DIALECTS[vendor]
    audio, count = make_audio(vendor), max(1, round(seconds * dialect.frames))
    fields: dict[str, Any] = {"call": ids.call, "stream": ids.stream, "sequence": 1, "chunk": 0, "time": 0}
    if dialect.connected is not None:
        yield Send(0.0, dialect.connected)
    yield Send(0.0, dialect.start % fields, 1)
    between = {int(count * _DTMF_AT): dialect.dtmf, int(count * _MARK_AT): dialect.mark}
    at, sequence = 0.0, 1
    for chunk in range(1, count + 1):
        at, sequence = chunk / dialect.frames, sequence + 1
        piece = audio[(chunk - 1) % len(audio)]
        if dialect.media is None or isinstance(piece, bytes):
            yield Send(at, piece, sequence)
        else:
            fields |= {"sequence": sequence, "chunk": chunk, "audio": piece}
            fields["time"] = (chunk - 1) * 1_000 // dialect.frames
            yield Send(at, dialect.media % fields, sequence)
        if (text := between.get(chunk)) is not None:
            sequence += 1
            yield Send(at, text % (fields | {"sequence": sequence}), sequence)
    if dialect.stop is not None:
        yield Send(at, dialect.stop % (fields | {"sequence": sequence + 1}), sequence + 1)
    yield Close(at)


@cache
def make_audio(vendor: str) -> Sequence[str | bytes]:
    """Return a second of audio in pieces as *vendor* sends them; it is made once, for all calls."""
    dialect = DIALECTS[vendor]
    pieces = cut_up(dialect.encoding.encode(make_speech(dialect.rate)), dialect.frames)
    return [b64encode(piece).decode() for piece in pieces] if dialect.is_numbered else pieces
