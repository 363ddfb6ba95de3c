"""A processor that simulates an unreliable AI service, for trying out."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from callactors.processors.contract import CallRecord
from callactors.retry import Done, Outcome, Retry


class FlakyProcessor:
    """Takes between two latencies (seconds) and misbehaves at rates between 0 and 1; *seed* repeats a run.

    At *failure_rate* it fails, at *hang_rate* it never answers, at *late_rate* it answers a latency behind
    its deadline, although it was cancelled then.
    """

    def __init__(
        self,
        *,
        latency_min: float = 1.0,
        latency_max: float = 3.0,
        failure_rate: float = 0.25,
        hang_rate: float = 0.0,
        late_rate: float = 0.0,
        seed: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._latency = (latency_min, latency_max)
        self._rates = (failure_rate, hang_rate, late_rate)
        self._rng = random.Random(seed)  # noqa: S311  # chance, not secrets
        self._sleep = sleep

    async def __call__(self, call: CallRecord) -> Outcome:
        latency = self._rng.uniform(*self._latency)
        has_failed, has_hung, is_late = [self._rng.random() < rate for rate in self._rates]
        sentiment = self._rng.choice(("positive", "neutral", "negative"))
        if has_hung:
            await asyncio.Event().wait()
        if is_late:
            with suppress(asyncio.CancelledError):  # this is what it is for
                await self._sleep(call.deadline)
        await self._sleep(latency)
        if has_failed:
            return Retry("the simulated AI service failed")
        return Done(
            {"transcript": f"simulated transcript of {call.packet_count} packets", "sentiment": sentiment}
        )
