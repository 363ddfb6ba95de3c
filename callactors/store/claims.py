"""Claims: activations of calls, gathered and made together in one round trip."""

import asyncio
import logging
from asyncio import Future, TimerHandle
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from time import monotonic
from typing import Final, NamedTuple

from callactors.errors import StorageRefused, StorageUnavailable
from callactors.logs import CallLog
from callactors.store.connection import Connection, RowsLocked, Session
from callactors.store.locks import LOCK_TIMEOUT, RETRY_INTERVAL, find_locked
from callactors.store.nodes import LEASE, Node
from callactors.store.rows import Claimed, read_claimed

log = logging.getLogger(__name__)

_BATCH: Final = 500
_CLAIM: Final = "select * from claim_5($1, $2, $3, $4, $5, $6, $7)"


class _Waiting(NamedTuple):
    """A claim that is to be made, and since when by the monotonic clock."""

    creates: bool
    takes: bool
    future: "Future[Claimed | None]"
    since: float


class Claims:
    """Claims calls for this node; concurrent ones share a statement.

    *on_events* is called after claims that may have made calls; those wake *first_wake* seconds later.
    """

    def __init__(
        self, dsn: str, node: Node, *, on_events: Callable[[], None], first_wake: float = 3_600.0
    ) -> None:
        self._node = node
        self._first_wake = first_wake
        self._on_events = on_events
        self._session = Session(dsn, "claims", lock_timeout=LOCK_TIMEOUT)
        self._waiting: dict[str, _Waiting] = {}
        self._locked: dict[str, _Waiting] = {}  # their rows are held by others
        self._look_timer: TimerHandle | None = None
        self._is_to_look = False
        self._has_work = asyncio.Event()
        self._in_flight_since: float | None = None

    def close(self) -> None:
        """Answer who still waits with StorageUnavailable; `run` must have ended."""
        self._fail({**self._waiting, **self._locked}, StorageUnavailable())
        self._session.close()

    async def claim(self, call_id: str, *, creates: bool, takes: bool) -> Claimed | None:
        """Claim and load *call_id*; None if there is no such call and *creates* is not set.

        If *takes* is set, it is taken from a living server that has not begun its AI step.
        At most one claim of a call may wait at a time. A claim that was made although its waiter is gone only
        costs the next one an epoch.

        Raises:
            StorageUnavailable: the claims were closed.
            StorageRefused: the database refused for a reason that sending again does not mend.
        """
        future: Future[Claimed | None] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = _Waiting(creates, takes, future, monotonic())
        self._has_work.set()
        return await future

    @property
    def oldest(self) -> float | None:
        """When the oldest claim came that is not made, by the monotonic clock."""
        if self._in_flight_since is not None or not self._waiting:
            return self._in_flight_since
        return next(iter(self._waiting.values())).since

    def admit(self, *, max_age: float) -> None:
        """Raise StorageUnavailable if the oldest claim has waited longer than *max_age* seconds."""
        oldest = self.oldest
        if oldest is not None and monotonic() - oldest > max_age:
            raise StorageUnavailable

    async def run(self) -> None:
        """Make claims until cancelled."""
        while True:
            await self._has_work.wait()
            if self._is_to_look:
                await self._look_again()
            batch = {call_id: self._waiting.pop(call_id) for call_id in [*islice(self._waiting, _BATCH)]}
            self._in_flight_since = next((waiting.since for waiting in batch.values()), None)
            if not self._waiting:
                self._has_work.clear()
            try:
                if batch:
                    await self._claim(batch)
            except asyncio.CancelledError:
                self._fail(batch, StorageUnavailable())
                raise
            except Exception as error:
                log.exception("claiming %d calls failed", len(batch))
                self._fail(batch, StorageRefused(type(error).__name__))
            self._in_flight_since = None
            await asyncio.sleep(0)  # as the journal does: let in what has arrived meanwhile

    async def _claim(self, batch: Mapping[str, _Waiting]) -> None:
        found: dict[str, Claimed] | None = None
        while batch and found is None:
            try:
                found = await self._session.run(partial(self._ask, batch=batch), gives_way=True)
            except RowsLocked:
                batch = await self._set_aside(batch)
        if any(waiting.creates for waiting in batch.values()):
            self._on_events()
        for call_id, waiting in batch.items():
            if not waiting.future.done():
                waiting.future.set_result(found.get(call_id) if found else None)

    async def _ask(self, connection: Connection, *, batch: Mapping[str, _Waiting]) -> dict[str, Claimed]:
        creates = [waiting.creates for waiting in batch.values()]
        spares = [call_id for call_id, waiting in batch.items() if not waiting.takes]
        node = self._node
        arguments = (node.owner, [*batch], creates, spares, node.may_take_stale, LEASE, self._first_wake)
        claimed = [read_claimed(record) for record in await connection.fetch(_CLAIM, *arguments)]
        return {one.call.call_id: one for one in claimed}

    async def _set_aside(self, batch: Mapping[str, _Waiting]) -> dict[str, _Waiting]:
        """Let those of *batch* wait whose rows somebody holds, and return the others."""
        locked = await self._session.run(partial(find_locked, call_ids=batch))
        for call_id in locked:
            CallLog(log, call_id).warning("another session holds its row; whoever asks for it waits")
            self._locked[call_id] = batch[call_id]
        self._look_later()
        return {call_id: waiting for call_id, waiting in batch.items() if call_id not in locked}

    async def _look_again(self) -> None:
        """Let those join the others whose rows are free by now."""
        self._is_to_look = False
        locked = await self._session.run(partial(find_locked, call_ids=list(self._locked)))
        now = monotonic()
        for call_id in self._locked.keys() - locked:
            self._waiting[call_id] = self._locked.pop(call_id)._replace(since=now)
        self._look_later()

    def _look_later(self) -> None:
        if self._locked and self._look_timer is None:
            self._look_timer = asyncio.get_running_loop().call_later(RETRY_INTERVAL, self._look_now)

    def _look_now(self) -> None:
        self._look_timer = None
        self._is_to_look = True
        self._has_work.set()

    @staticmethod
    def _fail(batch: Mapping[str, _Waiting], error: Exception) -> None:
        for waiting in batch.values():
            if not waiting.future.done():
                waiting.future.set_exception(error)
