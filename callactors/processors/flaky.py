"""A processor that simulates an unreliable AI service, for trying out."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from callactors.processors.contract import CallRecord
from callactors.retry import Done, Outcome, Retry


class FlakyProcessor:
    """Takes between two latencies (seconds), fails at a rate between 0 and 1; *seed* repeats a run."""

    def __init__(
        self,
        *,
        latency_min: float = 1.0,
        latency_max: float = 3.0,
        failure_rate: float = 0.25,
        seed: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._latency = (latency_min, latency_max)
        self._failure_rate = failure_rate
        self._rng = random.Random(seed)  # noqa: S311  # chance, not secrets
        self._sleep = sleep

    async def __call__(self, call: CallRecord) -> Outcome:
        latency = self._rng.uniform(*self._latency)
        has_failed = self._rng.random() < self._failure_rate
        sentiment = self._rng.choice(("positive", "neutral", "negative"))
        await self._sleep(latency)
        if has_failed:
            return Retry("the simulated AI service failed")
        return Done(
            {"transcript": f"simulated transcript of {call.packet_count} packets", "sentiment": sentiment}
        )
