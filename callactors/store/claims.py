"""Claims: activations of calls, gathered and made together in one round trip."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from itertools import islice
from time import monotonic
from typing import Final, NamedTuple

from callactors.errors import StorageRefused, StorageUnavailable
from callactors.store.connection import Connection, Session
from callactors.store.nodes import LEASE, Node
from callactors.store.rows import Claimed, read_claimed

log = logging.getLogger(__name__)

_BATCH: Final = 500
_CLAIM: Final = "select * from claim_1($1, $2, $3, $4, $5)"


class _Waiting(NamedTuple):
    """A claim that is to be made, and since when by the monotonic clock."""

    creates: bool
    future: "Future[Claimed | None]"
    since: float


class Claims:
    """Claims calls for this node; concurrent ones share a statement.

    *on_events* is called after claims that may have made calls.
    """

    def __init__(self, dsn: str, node: Node, *, on_events: Callable[[], None]) -> None:
        self._node = node
        self._on_events = on_events
        self._session = Session(dsn, "claims")
        self._waiting: dict[str, _Waiting] = {}
        self._has_work = asyncio.Event()
        self._in_flight_since: float | None = None

    def close(self) -> None:
        """Answer who still waits with StorageUnavailable; `run` must have ended."""
        self._fail(self._waiting, StorageUnavailable())
        self._session.close()

    async def claim(self, call_id: str, *, creates: bool) -> Claimed | None:
        """Claim and load *call_id*; None if there is no such call and *creates* is not set.

        At most one claim of a call may wait at a time. A claim that was made although its waiter is gone only
        costs the next one an epoch.

        Raises:
            StorageUnavailable: the claims were closed.
            StorageRefused: the database refused for a reason that sending again does not mend.
        """
        future: Future[Claimed | None] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = _Waiting(creates, future, monotonic())
        self._has_work.set()
        return await future

    @property
    def oldest(self) -> float | None:
        """When the oldest claim came that is not made, by the monotonic clock."""
        if self._in_flight_since is not None:
            return self._in_flight_since
        return next((waiting.since for waiting in self._waiting.values()), None)

    def admit(self, *, max_age: float) -> None:
        """Raise StorageUnavailable if the oldest claim has waited longer than *max_age* seconds."""
        oldest = self.oldest
        if oldest is not None and monotonic() - oldest > max_age:
            raise StorageUnavailable

    async def run(self) -> None:
        """Make claims until cancelled."""
        while True:
            await self._has_work.wait()
            batch = {call_id: self._waiting.pop(call_id) for call_id in [*islice(self._waiting, _BATCH)]}
            self._in_flight_since = next(waiting.since for waiting in batch.values())
            if not self._waiting:
                self._has_work.clear()
            try:
                await self._claim(batch)
            except asyncio.CancelledError:
                self._fail(batch, StorageUnavailable())
                raise
            except Exception as error:
                log.exception("claiming %d calls failed", len(batch))
                self._fail(batch, StorageRefused(type(error).__name__))
            self._in_flight_since = None
            await asyncio.sleep(0)  # as the journal does: let in what has arrived meanwhile

    async def _claim(self, batch: dict[str, _Waiting]) -> None:
        ids, creates = list(batch), [waiting.creates for waiting in batch.values()]

        async def work(connection: Connection) -> list[Claimed]:
            arguments = (self._node.owner, ids, creates, self._node.may_take_stale, LEASE)
            return [read_claimed(record) for record in await connection.fetch(_CLAIM, *arguments)]

        found = {claimed.call.call_id: claimed for claimed in await self._session.run(work)}
        if any(creates):
            self._on_events()
        for call_id, waiting in batch.items():
            if not waiting.future.done():
                waiting.future.set_result(found.get(call_id))

    @staticmethod
    def _fail(batch: dict[str, _Waiting], error: Exception) -> None:
        for waiting in batch.values():
            if not waiting.future.done():
                waiting.future.set_exception(error)
