"""What an attempt of the AI step may answer, and when the next one is due."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """The step succeeded; *result* is stored as JSON."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The step failed, but may succeed later: in *after* seconds, or after the policy's delay if None."""

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The step failed for good."""

    reason: str


Outcome = Done | Retry | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often the AI step is tried and how long it waits in between; all times in seconds.

    The waits are initial, initial * factor, initial * factor ** 2 and so on, none above *max_delay*. *jitter*
    adds up to that fraction of the wait at random. An attempt may take *attempt_timeout*, and the whole step,
    waits of all kinds included, *step_timeout*.
    """

    max_attempts: int = 4
    initial: float = 1.0
    factor: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.0
    attempt_timeout: float = 30.0
    step_timeout: float = inf

    def delay(self, attempt: int, after: float | None, rng: Callable[[], float]) -> float:
        """Return the wait between *attempt* (the first is 1), which failed, and the next one.

        *after* is the wait the processor asked for, and *rng* returns a number in [0, 1).
        """
        if after is not None:
            return min(max(0.0, after), self.max_delay)  # in this order a NaN counts as 0
        wait = self.initial
        for _ in range(attempt - 1):
            wait = min(wait * self.factor, self.max_delay)  # stepwise: a power would overflow
        return min(wait * (1 + self.jitter * rng()), self.max_delay)
