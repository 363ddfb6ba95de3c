"""The sweeper: calls that are due and have nobody to take their next step, and streams lost with a server.

Level-triggered: what nobody has dealt with is found again.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from callactors.store import due
from callactors.store.connection import Connection, Session
from callactors.store.nodes import LEASE, Node

log = logging.getLogger(__name__)

_INTERVAL: Final = 1.0


class Sweeper:
    """Looks every second, and at start, for calls to wake; *wake* is called with each of them.

    *drop* is called with each stream whose connection went with a server that is dead, *tell* after all that:
    the database has answered.
    """

    def __init__(
        self,
        dsn: str,
        node: Node,
        *,
        wake: Callable[[due.Due], None],
        drop: Callable[[due.LostStream], None],
        tell: Callable[[], None],
    ) -> None:
        self._node = node
        self._wake = wake
        self._drop = drop
        self._tell = tell
        self._session = Session(dsn, "sweeper")

    def close(self) -> None:
        self._session.close()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._sweep()
            await asyncio.sleep(_INTERVAL)

    async def _sweep(self) -> None:
        for call_id in await self._session.run(self._read_orphans):
            self._wake(due.Due(call_id))
        for lost in await self._session.run(self._read_lost_streams):
            self._drop(lost)
        after: tuple[float, int] | None = due.FIRST
        while after is not None:
            page = await self._session.run(partial(self._read_due, after))
            for call in page.calls:
                self._wake(call)
            after = page.next
        self._tell()

    async def _read_orphans(self, connection: Connection) -> list[str]:
        node = self._node
        return await due.read_orphans(connection, node.owner, may_take_stale=node.may_take_stale, lease=LEASE)

    async def _read_lost_streams(self, connection: Connection) -> list[due.LostStream]:
        node = self._node
        return await due.read_lost_streams(
            connection, node.owner, may_take_stale=node.may_take_stale, lease=LEASE
        )

    async def _read_due(self, after: tuple[float, int], connection: Connection) -> due.DuePage:
        node = self._node
        return await due.read_due(
            connection, node.owner, after, may_take_stale=node.may_take_stale, lease=LEASE
        )
