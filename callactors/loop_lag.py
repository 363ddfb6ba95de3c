"""How late the event loop comes to what is due: the first sign of a process that has too much to do."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from callactors.counts import Histogram

_INTERVAL: Final = 0.1


class LoopLag:
    """Looks ten times a second; *clock* and *sleep* are in seconds."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.seconds = Histogram()
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due = self._clock() + _INTERVAL
            await self._sleep(_INTERVAL)
            self.seconds.add(max(self._clock() - due, 0.0))
