"""What a processor of the AI step is given, and what it may answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from callactors.retry import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A completed call, as one attempt of the AI step sees it.

    `deadline` is the seconds the attempt may take. The outside call is made at least once a generation; a
    provider that keeps `idempotency_key` does the work once.
    """

    call_id: str
    generation: int
    attempt: int
    packets: int
    deadline: float

    @property
    def idempotency_key(self) -> str:
        return f"{self.call_id}:{self.generation}"


Processor = Callable[[CallRecord], Awaitable[Outcome]]
"""Runs the AI step once. Raising anything, or running past the deadline, is a failed attempt."""
