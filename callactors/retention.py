"""Retention: calls are purged that ended long enough ago, at the command line or by the server itself."""

import asyncio
import logging
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any, Final

from callactors.store.connection import Connection, Session
from callactors.store.erasure import Run, scrub
from callactors.store.purge import FIRST, Batch, Place, purge_batch, read_horizon

log = logging.getLogger(__name__)

_INTERVAL: Final = 60.0


async def purge(connection: Connection, *, older_than: timedelta) -> int:
    """Purge the calls that ended more than *older_than* ago, the oldest first, and return how many.

    Those that an open transaction keeps from the feeds, and those whose rows others hold, stay for the next
    time.
    """
    return await _purge(lambda work: work(connection), older_than)


class Retention:
    """Purges what is older than *keep* every minute, and at start; several servers may do it at once."""

    def __init__(self, dsn: str, keep: timedelta | None) -> None:
        self._keep = keep
        self._session = Session(dsn, "retention")

    def close(self) -> None:
        self._session.close()

    async def run(self) -> None:
        """Purge until cancelled."""
        if self._keep is None:
            log.info("calls are kept for ever")
            await asyncio.get_running_loop().create_future()
        else:
            log.info("calls that ended more than %s ago are purged", self._keep)
            await self._run(self._keep)

    async def _run(self, keep: timedelta) -> None:
        while True:
            purged = await _purge(self._session.run, keep)
            if purged:
                log.info("purged %d calls that ended more than %s ago", purged, keep)
            await asyncio.sleep(min(_INTERVAL, keep.total_seconds()))


async def _purge(run: Run[Any], older_than: timedelta) -> int:
    horizon = await run(partial(read_horizon, older_than=older_than))
    place: Place | None = FIRST
    purged = 0
    while place is not None:
        began = monotonic()
        batch: Batch = await run(partial(purge_batch, horizon=horizon, after=place))
        purged += batch.purged
        for call_no in batch.to_scrub:
            await scrub(run, call_no)
        place = batch.next
        await asyncio.sleep(monotonic() - began)  # half of the time is for the calls that live
    return purged
