"""What the server should know of a call, by what was sent, and what it knows."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from callactors.packets import EndReason
from callactors.simulate.actions import Action, Cut, Lose, Send

_MAX_TOLD: Final = 200  # characters

Range = tuple[int, int]
"""First and last missing sequence, both inclusive."""


class Difference(NamedTuple):
    """The server says *seen* of *what*, where it should say *expected*."""

    call_id: str
    what: str
    expected: str
    seen: str

    def __str__(self) -> str:
        return f"{self.call_id}: {self.what} should be {self.expected}, but is {self.seen}"


class Ledger:
    """Takes down what happens to one call; *stream* is None if the server names the stream by itself."""

    def __init__(self, call_id: str, stream: str | None) -> None:
        self.call_id = call_id
        self.messages = 0
        self.is_cut = False
        self._stream = stream
        self._sent: set[int] = set()
        self._lost: set[int] = set()

    def note(self, action: Action) -> None:
        """Take *action* down, which was just done."""
        match action:
            case Send(_, _, sequence):
                self.messages += 1
                if sequence is not None:
                    self._sent.add(sequence)
            case Lose(_, sequence):
                self._lost.add(sequence)
            case Cut():
                self.is_cut = True

    @property
    def packets(self) -> int:
        """How many numbered messages were sent, each counted once."""
        return len(self._sent)

    @property
    def lost(self) -> int:
        """How many messages were lost before others that were sent."""
        highest = max(self._sent, default=0)
        return sum(sequence < highest for sequence in self._lost)

    @property
    def gaps(self) -> list[Range]:
        """What the server must miss."""
        return find_gaps(self._sent)

    def compare(self, answer: Mapping[str, Any]) -> list[Difference]:
        """Return where *answer*, which is GET /v1/call/{call_id}, differs from what was done."""
        reason = EndReason.STREAM_DROPPED if self.is_cut else EndReason.STREAM_STOPPED
        streams = answer["streams"]
        seen = streams.get(self._stream) if self._stream is not None else next(iter(streams.values()), None)
        missing = [] if seen is None else [tuple(gap) for gap in seen["missing"]]
        checks = (
            ("streams", 1, len(streams)),
            ("packets", self.packets, answer["packets"]),
            ("stream", self._stream, self._stream if seen is not None else sorted(streams)),
            ("missing", self.gaps, missing),
            ("end_reason", reason.value, answer["end_reason"]),
        )
        found = [self.differ(what, wanted, known) for what, wanted, known in checks if wanted != known]
        if answer["state"] == "IN_PROGRESS":
            found.append(self.differ("state", "beyond IN_PROGRESS", answer["state"]))
        return found

    def differ(self, what: str, expected: object, seen: object) -> Difference:
        """Return that this call differs."""
        return Difference(self.call_id, what, _shorten(expected), _shorten(seen))


def find_gaps(sequences: set[int]) -> list[Range]:
    """Return the ranges between 1 and the highest of *sequences* that are not there."""
    return list(_gaps(sequences))


def _gaps(sequences: set[int]) -> Iterator[Range]:
    last = 0
    for sequence in sorted(sequences):
        if sequence > last + 1:
            yield last + 1, sequence - 1
        last = sequence


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_TOLD else f"{text[:_MAX_TOLD]}..."
