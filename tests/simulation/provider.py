"""The AI provider of the simulation: it misbehaves, and remembers who asked."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from callactors.processors.contract import CallRecord
from callactors.retry import Done, GiveUp, Outcome, Retry
from tests.simulation.loop import PROCESS

_LATENCY: Final = 0.3  # seconds at most
_WAYS: Final = ("retry", "retry", "retry soon", "raise", "give up", "hang", "late")


@dataclass(slots=True)
class Asked:
    """One call of the provider: *is_good* once it has answered with a result in time."""

    call_id: str
    generation: int
    attempt: int
    packets: int
    server: str
    is_good: bool = False

    @property
    def result(self) -> dict[str, int]:
        return {"generation": self.generation, "attempt": self.attempt, "packets": self.packets}


class Provider:
    """The processor of all servers; `asked` is what it has seen, and *on_asked* hears of each."""

    def __init__(self, rng: Random, trouble_rate: float, on_asked: Callable[[Asked], None]) -> None:
        self.asked: list[Asked] = []
        self._on_asked = on_asked
        self._rng = rng
        self._trouble_rate = trouble_rate

    async def __call__(self, call: CallRecord) -> Outcome:
        process = PROCESS.get()
        assert process is not None
        asked = Asked(call.call_id, call.generation, call.attempt, call.packet_count, process.name)
        self.asked.append(asked)
        self._on_asked(asked)
        rng = self._rng
        way = rng.choice(_WAYS) if rng.random() < self._trouble_rate else "good"
        latency = rng.random() * _LATENCY
        if way == "hang":
            await asyncio.Event().wait()
        if way == "late":
            with suppress(asyncio.CancelledError):  # this is what it is for
                await asyncio.sleep(call.deadline)
        await asyncio.sleep(latency)
        match way:
            case "retry":
                return Retry("not now")
            case "retry soon":
                return Retry("not now", after=0.05)
            case "raise":
                raise RuntimeError("the provider is broken")
            case "give up":
                return GiveUp("never")
        asked.is_good = way == "good"
        return Done(asked.result)
