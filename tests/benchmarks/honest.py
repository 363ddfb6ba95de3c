"""Calls that send at a fixed rate, well below what the server takes: those that others must not disturb."""

import statistics
from dataclasses import dataclass, field
from typing import Any, Final

from tests.benchmarks.load import WARM_UP, Plan, Result
from tests.benchmarks.processes import Server, run_load

CALLS: Final = 200  # each with a connection of its own
SHARE: Final = 0.4
RATE: Final = 2_000.0  # packets a second of all of them, unless the server is busier with that than SHARE
_STEP: Final = 100.0
_TRY: Final = 1.0


@dataclass(slots=True)
class Rounds:
    """What the honest calls saw in rounds of one kind."""

    honest: list[Result] = field(default_factory=list)

    def median(self, name: str) -> float:
        return float(statistics.median(getattr(result, name) for result in self.honest))

    @property
    def honest_summary(self) -> dict[str, Any]:
        names = ("rate", "p50", "p99", "busy", "waiting", "client_busy", "client_waiting")
        told: dict[str, Any] = {name: round(self.median(name), 4) for name in names}
        return {**told, "p99_of_rounds": [round(result.p99, 3) for result in self.honest]}


class Honest:
    """Sends *rate* packets a second to *server*, each time from new calls.

    The load is told to tell of each call if *tells_calls*.
    """

    def __init__(self, server: Server, *, rate: float = RATE, tells_calls: bool = False) -> None:
        self._server = server
        self._tells_calls = tells_calls
        self._runs = 0
        self.rate = rate

    async def choose_rate(self) -> Result:
        """Take less if that alone fills more of the server's core than SHARE; return the trial."""
        tried = await self.send(_TRY)
        if tried.busy > SHARE:
            self.rate = max(self.rate * SHARE / tried.busy // _STEP * _STEP, _STEP)
        return tried

    async def send(self, seconds: float, *, warm_up: float = WARM_UP) -> Result:
        """Send for so long and a warm-up."""
        self._runs += 1
        plan = Plan(
            port=self._server.port,
            pid=self._server.pid,
            prefix=f"honest-{self._runs}",
            seconds=seconds,
            warm_up=warm_up,
            rate=self.rate,
            connections=CALLS,
            calls=CALLS,
            goes_first=True,
            tells_calls=self._tells_calls,
        )
        return await run_load(plan)
