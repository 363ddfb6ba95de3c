"""Tells systemd how the server is, by datagrams to the socket that NOTIFY_SOCKET names (sd_notify(3))."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

log = logging.getLogger(__name__)

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
_WELL: Final = "WATCHDOG=1"


class Systemd:
    """Speaks for this process, if it is a unit of Type=notify; its children do not hear of the socket."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        is_ours = os.environ.pop("WATCHDOG_PID", None) in (None, str(os.getpid()))
        period = int(os.environ.pop("WATCHDOG_USEC", "0")) / 1_000_000
        self._interval = period / 2 if self._address and is_ours else 0.0

    def tell(self, state: str) -> None:
        """Send *state*, as READY=1, and go on whether or not it is heard."""
        if not self._address:
            return
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            try:
                out.sendto(state.encode(), name)
            except OSError as error:
                log.warning("systemd is not told %s: %s", state, error.strerror)

    @asynccontextmanager
    async def watched(self, is_well: Callable[[], bool]) -> AsyncIterator[None]:
        """Tell the watchdog again and again that the loop turns, as long as *is_well* says so."""
        telling = asyncio.create_task(self._keep_telling(is_well))
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _keep_telling(self, is_well: Callable[[], bool]) -> None:
        while self._interval:
            if is_well():
                self.tell(_WELL)
            await asyncio.sleep(self._interval)
