"""What is counted on the way: plain numbers that only rise, and that somebody else reads."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from callactors.facts import Accepted
from callactors.retry import Done, GiveUp, Outcome, Retry

_SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_LONG: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Histogram:
    """How many values were at most each of *bounds*, how many were above them all, and the sum of all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = _SHORT) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


class CallCounts:
    """What became of packets and of attempts; times in seconds.

    `acks` are the times from when a packet came to its call's actor until it was committed.
    """

    def __init__(self) -> None:
        self.duplicates = 0
        self.late = 0
        self.gaps = 0
        self.acks = Histogram()
        self.attempts = {name: Histogram(_LONG) for name in ("done", "retry", "give_up", "canceled")}

    def count_odd(self, accepted: Accepted) -> None:
        """Count what came otherwise than expected."""
        self.duplicates += accepted.is_duplicate
        self.late += accepted.is_late
        self.gaps += accepted.gap is not None

    def count_attempt(self, outcome: Outcome | None, seconds: float) -> None:
        """Count an attempt; one without *outcome* was canceled."""
        match outcome:
            case Done():
                name = "done"
            case Retry():
                name = "retry"
            case GiveUp():
                name = "give_up"
            case None:
                name = "canceled"
        self.attempts[name].add(seconds)
