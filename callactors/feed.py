"""The feed: follows the event log and publishes what it finds. The log is the truth, a poke only a hint."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from callactors.hub import Hub
from callactors.store import events
from callactors.store.connection import Pool, Session, reading
from callactors.store.events import Cursor, LoggedEvent, Position

log = logging.getLogger(__name__)

TOPIC: Final = "events"
_POLL_INTERVAL: Final = 1.0
_HORIZON_INTERVAL: Final = 0.02  # how soon to ask again for events that an open transaction holds back
_PACE: Final = 0.005  # events that are committed so close together are read together
_LAG_WARNING: Final = 1.0


class FeedEvent(NamedTuple):
    """An event as supervisors get it: `text` is made once for all of them."""

    position: Position
    kind: str
    text: str


class Feed:
    """Publishes every event of the log *log_id* on the hub, in the order of the log, from `open` on."""

    def __init__(self, dsn: str, pool: Pool, hub: Hub[FeedEvent], log_id: str) -> None:
        self._session = Session(dsn, "feed")
        self._pool = pool
        self._hub = hub
        self._log_id = log_id
        self._position = events.START
        self._poked = asyncio.Event()
        self._behind_since: float | None = None
        self._is_lag_told = False

    @property
    def cursor(self) -> Cursor:
        """Behind the last event published."""
        return Cursor(self._log_id, self._position)

    @property
    def lag(self) -> float:
        """For how many seconds committed events have been held back."""
        return 0.0 if self._behind_since is None else asyncio.get_running_loop().time() - self._behind_since

    async def open(self) -> None:
        """Begin at the end of the log as it is now."""
        self._position = await self._session.run(events.read_end)

    def close(self) -> None:
        self._session.close()

    def poke(self) -> None:
        """Say that events were committed."""
        self._poked.set()

    async def read(self, after: Position, until: Position) -> AsyncIterator[FeedEvent]:
        """Read the log again from behind *after* up to and with *until*.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        while after < until:
            async with reading(self._pool) as connection:
                page = await events.read_page(connection, after)
            for event in page:
                if event.position > until:
                    return
                yield self._present(event)
            if len(page) < events.PAGE:
                return
            after = page[-1].position

    def owns(self, cursor: Cursor) -> bool:
        """Whether *cursor* points into this log; it may be ahead of what was published here."""
        return cursor.log_id == self._log_id

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            self._poked.clear()
            is_behind = await self._follow()
            self._watch_lag(is_behind)
            try:
                async with asyncio.timeout(_HORIZON_INTERVAL if is_behind else _POLL_INTERVAL):
                    await self._poked.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_PACE)

    async def _follow(self) -> bool:
        """Publish what is new, and return whether events stand above the horizon."""
        is_full = True
        while is_full:
            page = await self._session.run(lambda c: events.read_page(c, self._position))
            if self._hub.count(TOPIC):
                for event in page:
                    self._hub.publish(TOPIC, self._present(event))
            if page:
                self._position = page[-1].position
            is_full = len(page) == events.PAGE
        return await self._session.run(lambda c: events.is_behind(c, self._position))

    def _watch_lag(self, is_behind: bool) -> None:
        if not is_behind:
            self._behind_since, self._is_lag_told = None, False
        elif self._behind_since is None:
            self._behind_since = asyncio.get_running_loop().time()
        elif self.lag > _LAG_WARNING and not self._is_lag_told:
            log.warning(
                "events are held back: a transaction has been open in this PostgreSQL for over a second"
            )
            self._is_lag_told = True

    def _present(self, event: LoggedEvent) -> FeedEvent:
        told: dict[str, Any] = {
            "type": "event" if event.kind == "transition" else event.kind,
            "call_id": event.call_id,
            "state": event.to_state,
            "from": event.from_state,
            "version": event.version,
            "attempt": event.attempt,
            "at": event.at,
            "cursor": str(Cursor(self._log_id, event.position)),
            **event.detail,
        }
        return FeedEvent(event.position, event.kind, json.dumps(told, separators=(",", ":")))
