"""Ends the process when its event loop has stood still for so long that others have taken its calls."""

import asyncio
import faulthandler
import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

log = logging.getLogger(__name__)

_LOOKS: Final = 10  # within the limit
_FROZEN: Final = 70  # the exit code: EX_SOFTWARE of sysexits.h


class _Watch:
    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._turned_at = monotonic()
        self._ended = threading.Event()

    def turn(self) -> None:
        """Note that the loop turns."""
        self._turned_at = monotonic()

    def end(self) -> None:
        self._ended.set()

    def look(self) -> None:
        """Look again and again, in a thread of its own."""
        interval = self._limit / _LOOKS
        looked_at = monotonic()
        while not self._ended.wait(interval):
            now = monotonic()
            if now - looked_at > self._limit / 2:
                self.turn()  # all of the process stood still, as behind SIGSTOP: the loop may go on now
            elif now - self._turned_at > self._limit:
                log.critical("the event loop has stood still for %.1f s: the process ends", self._limit)
                faulthandler.dump_traceback()
                os._exit(_FROZEN)
            looked_at = now


@asynccontextmanager
async def watched(limit: float) -> AsyncIterator[None]:
    """End the process if its loop, and only that, stands still for *limit* seconds."""
    watch = _Watch(limit)
    threading.Thread(target=watch.look, name="loop-watchdog", daemon=True).start()
    turning = asyncio.create_task(_turn(watch, limit / _LOOKS))
    try:
        yield
    finally:
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
        watch.end()


async def _turn(watch: _Watch, interval: float) -> None:
    while True:
        watch.turn()
        await asyncio.sleep(interval)
