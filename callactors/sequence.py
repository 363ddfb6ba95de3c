"""Gaps, duplicates and late packets of one stream, exactly and in bounded memory."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_GAPS: Final = 100
_ONLY_ZERO: Final = ((0, 0),)  # what nearly every stream misses, in memory once

Range = tuple[int, int]
"""First and last missing sequence, both inclusive."""


class StreamSequence(NamedTuple):
    """Which sequences of a stream have been received: all below `next` but the `missing` ranges.

    The first sequence expected is 1. A 0 is taken too, so it stands in `missing` until it comes, but is
    never told as missing.
    """

    next: int = 0
    missing: tuple[Range, ...] = ()

    def has(self, sequence: int) -> bool:
        """Whether *sequence* was received before."""
        return sequence < self.next and self._gap_of(sequence) is None

    def add(self, sequence: int) -> "StreamSequence":
        """Return the state after *sequence*, which must not have been received before."""
        if sequence == self.next:
            return StreamSequence(sequence + 1, self.missing)
        if sequence > self.next:
            gap = (self.next, sequence - 1)
            return StreamSequence(sequence + 1, (*self.missing, gap) if gap != (0, 0) else _ONLY_ZERO)
        index = self._gap_of(sequence)
        if index is None:
            raise ValueError(f"sequence {sequence} was received before")
        first, last = self.missing[index]
        parts = [part for part in ((first, sequence - 1), (sequence + 1, last)) if part[0] <= part[1]]
        return StreamSequence(self.next, (*self.missing[:index], *parts, *self.missing[index + 1 :]))

    @property
    def gaps(self) -> Sequence[Range]:
        """The ranges that are missing, lowest first, without sequence 0."""
        if not self.missing or self.missing[0][0] > 0:
            return self.missing
        last = self.missing[0][1]
        return self.missing[1:] if last == 0 else ((1, last), *self.missing[1:])

    def gaps_up_to(self, last: int) -> Sequence[Range]:
        """The ranges missing if the sender says that *last* was its last sequence."""
        behind = () if last < max(self.next, 1) else ((max(self.next, 1), last),)
        return (*self.gaps, *behind)

    def _gap_of(self, sequence: int) -> int | None:
        index = bisect_right(self.missing, sequence, key=_first) - 1
        return index if index >= 0 and self.missing[index][1] >= sequence else None


def _first(gap: Range) -> int:
    return gap[0]
