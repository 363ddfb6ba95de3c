"""The AI step of one call, as its actor has it: a pass at the gate, an attempt, the time left for both."""

import logging
import random
from asyncio import Task
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from callactors import tracing
from callactors.counts import CallCounts
from callactors.facts import Row
from callactors.logs import CallLog
from callactors.messages import AttemptEnded
from callactors.processors.attempt import prepare, run_attempt
from callactors.processors.contract import CallRecord, Processor
from callactors.processors.gate import Gate, Pass
from callactors.retry import Done, Outcome, Retry, RetryPolicy
from callactors.store.contents import Contents, StoredPacket

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepServices:
    """What the AI step of every call works with.

    *read_contents* and *read_page* take a call_id, and the latter what a ReadPage does; *spawn* runs an
    attempt and sees to its end, *counts* counts it.
    """

    processor: Processor
    gate: Gate
    policy: RetryPolicy
    read_contents: Callable[[str], Awaitable[Contents]]
    read_page: Callable[[str, str, int], Awaitable[tuple[Sequence[StoredPacket], int | None]]]
    spawn: Callable[[Coroutine[Any, Any, None]], Task[None]]
    counts: CallCounts
    rng: Callable[[], float] = random.random


class AiStep:
    """One generation's attempts, the first of which begins when the gate lets it.

    *on_admitted* is called when what had to wait may begin, *on_end* when an attempt has ended by itself;
    the step has gone on for *age* seconds.
    """

    __slots__ = ("_attempt", "_call_id", "_ends_at", "_on_admitted", "_on_end", "_pass", "_services")

    def __init__(
        self,
        call_id: str,
        services: StepServices,
        *,
        on_admitted: Callable[[], None],
        on_end: Callable[[AttemptEnded], None],
        age: float = 0.0,
    ) -> None:
        self._call_id = call_id
        self._services = services
        self._on_admitted = on_admitted
        self._on_end = on_end
        self._ends_at = monotonic() + services.policy.step_timeout - age
        self._pass: Pass | None = None
        self._attempt: Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether an attempt waits for its pass, or has one and has not begun."""
        return self._pass is not None

    @property
    def left(self) -> float:
        """The seconds left for the whole step."""
        return self._ends_at - monotonic()

    @property
    def attempt_timeout(self) -> float:
        """The seconds that an attempt may take which begins now."""
        return max(min(self._services.policy.attempt_timeout, self.left), 0.0)

    def admit(self) -> bool:
        """Whether an attempt may begin now; if not, on_admitted is called when it may."""
        if self._pass is None:
            self._pass = self._services.gate.ask(self._on_admitted)
        return self._pass.is_good

    def begin(self, row: Row, origin: object) -> None:
        """Run the attempt that *row* says has begun; *origin* is the context of a request that is traced."""
        facts = row.facts
        record = CallRecord(
            call_id=self._call_id,
            generation=facts.generation,
            attempt=facts.attempt,
            deadline=self.attempt_timeout,
            packet_count=row.packets,
            streams=tuple(sorted(row.streams)),
            end_reason=facts.end_reason,
            read_page=partial(self._services.read_page, self._call_id),
        )
        admitted, self._pass = self._pass, None
        self._attempt = self._services.spawn(self._run(record, admitted, origin))
        if admitted is not None:  # for one that is cancelled before its first step
            self._attempt.add_done_callback(lambda _: admitted.give_back())

    def stop_attempt(self) -> None:
        """Cancel the attempt that runs, if there is one."""
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    def leave(self) -> None:
        """End the attempt that runs or waits, if there is one."""
        self.stop_attempt()
        if self._pass is not None:
            self._pass.give_back()
            self._pass = None

    async def _run(self, record: CallRecord, admitted: Pass | None, origin: object) -> None:
        # What the database or a lack of time ends says nothing of the provider.
        has_succeeded: bool | None = None
        outcome: Outcome | None = None
        began = monotonic()
        try:
            with tracing.attempted(origin, self._call_id, record.generation, record.attempt) as tell:
                prepared = await prepare(record, self._services.read_contents)
                if isinstance(prepared, Retry):
                    outcome = prepared
                else:
                    outcome = await run_attempt(self._services.processor, prepared)
                    if self.left > 0 or not isinstance(outcome, Retry):
                        has_succeeded = not isinstance(outcome, Retry)
                if tell is not None:
                    tell("callactors.outcome", type(outcome).__name__)
        finally:
            self._services.counts.count_attempt(outcome, monotonic() - began)
            if admitted is not None:
                admitted.give_back(has_succeeded)
        if not isinstance(outcome, Done):
            CallLog(log, self._call_id).warning("attempt %d failed", record.attempt)
        self._attempt = None
        self._on_end(AttemptEnded(record.generation, record.attempt, outcome))
