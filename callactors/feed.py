"""The feed: follows the event log and publishes what it finds. The log is the truth, a poke only a hint."""

import asyncio
import json
import logging
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, Final, TypeAlias

from callactors.errors import LogPurged
from callactors.facts import EventKind
from callactors.hub import Hub
from callactors.store import events
from callactors.store.connection import Pool, Session, reading
from callactors.store.events import Cursor, LoggedEvent, Position
from callactors.store.summaries import tell_time

log = logging.getLogger(__name__)

TOPIC: Final = "events"
RECENT: Final = 4_000  # events kept in memory
FAR: Final = 100_000  # events: a client that is farther behind begins anew
_POLL_INTERVAL: Final = 1.0
_HORIZON_INTERVAL: Final = 0.02  # how soon to ask again for events that an open transaction holds back
_PACE: Final = 0.005  # events that are committed so close together are read together
_LAG: Final = 1.0  # seconds that events may come late before it is told
_SILENCE: Final = 3.0  # seconds without an answer from the database, of which one is the poll's own
_BOOKMARK_INTERVAL: Final = 10.0


class FeedEvent:
    """An event as supervisors get it; its frame is made once for all of them."""

    __slots__ = ("_frame", "_log_id", "logged")

    def __init__(self, log_id: str, logged: LoggedEvent) -> None:
        self.logged = logged
        self._log_id = log_id
        self._frame: bytes | None = None

    @property
    def position(self) -> Position:
        return self.logged.position

    @property
    def frame(self) -> bytes:
        """`text` as a WebSocket text frame."""
        if self._frame is None:
            self._frame = text_frame(self.text)
        return self._frame

    @property
    def text(self) -> str:
        event = self.logged
        told: dict[str, Any] = {
            "type": "event" if event.kind == "transition" else event.kind,
            "call_id": event.call_id,
            "state": event.to_state,
            "from": event.from_state,
            "version": event.version,
            "attempt": event.attempt,
            "at": tell_time(event.at),
            "cursor": str(Cursor(self._log_id, event.position)),
        }
        text = json.dumps(told, separators=(",", ":"))
        return text if event.detail == "{}" else f"{text[:-1]},{event.detail[1:]}"

    def forget(self) -> None:
        """Tell no details any more, also to those for whom it lies ready."""
        self.logged = self.logged._replace(detail="{}")
        self._frame = None

    @property
    def end_reason(self) -> str | None:
        """Why the call has ended, if it has."""
        told: str | None = json.loads(self.logged.detail).get("end_reason")
        return told


class Notice:
    """What is told of the feed itself, between events; *condition* is what it tells the present state of."""

    __slots__ = ("condition", "frame")

    def __init__(self, kind: str, *, condition: str | None = None, **told: object) -> None:
        self.condition = condition
        self.frame = text_frame(json.dumps({"type": kind, **told}, separators=(",", ":")))


FeedItem: TypeAlias = FeedEvent | Notice


class Feed:
    """Publishes every event of the log *log_id* on the hub, in the order of the log, from `open` on.

    *on_erased* is called with the id of each call that was erased.
    """

    def __init__(
        self, dsn: str, pool: Pool, hub: Hub[FeedItem], log_id: str, *, on_erased: Callable[[str], None]
    ) -> None:
        self.trouble: str | None = None
        """Why events come late: "held-back" by an open transaction, "storage-unavailable", or None."""
        self.step = "open"
        """What the gate before the AI step is."""
        self.cut_off = 0
        """How many supervisors were cut off since they did not read."""
        self._session = Session(dsn, "feed")
        self._pool = pool
        self._hub = hub
        self._log_id = log_id
        self._on_erased = on_erased
        self._position = events.START
        self._recent: deque[FeedEvent] = deque(maxlen=RECENT)
        self._recent_after = events.START  # every event behind it and up to _position is in _recent
        self._poked = asyncio.Event()
        self._read_at = 0.0
        self._behind_since: float | None = None

    @property
    def cursor(self) -> Cursor:
        """Behind the last event published."""
        return Cursor(self._log_id, self._position)

    @property
    def lag(self) -> float:
        """For how many seconds committed events have been held back."""
        return 0.0 if self._behind_since is None else _now() - self._behind_since

    async def open(self) -> None:
        """Begin at the end of the log as it is now."""
        purged = await self._session.run(events.read_purged)
        newest = await self._session.run(lambda c: events.read_newest(c, RECENT))
        self._recent.extend(FeedEvent(self._log_id, event) for event in newest)
        self._position = max(purged, newest[-1].position if newest else events.START)
        for event in newest:
            self._heed(event)
        if len(newest) == RECENT:
            self._recent_after = newest[0].position
        self._read_at = _now()

    def close(self) -> None:
        self._session.close()

    def poke(self) -> None:
        """Say that events were committed."""
        self._poked.set()

    async def find_gap(self, since: Cursor) -> str | None:
        """Return why a client cannot go on behind *since*, or None if it can.

        A cursor of this log may be ahead of what was published here: another server's feed can be faster.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        if since.log_id != self._log_id:
            return "unknown-log"
        if any(event.position == since.position for event in reversed(self._recent)):
            return None
        async with reading(self._pool) as connection:
            purged = await events.read_purged(connection)
            if since.position < purged:
                return "expired"
            if since.position != purged and not await events.is_known(connection, since.position):
                return "unknown-log"
            return "expired" if await events.is_far(connection, since.position, FAR) else None

    async def read(self, after: Position) -> AsyncIterator[FeedEvent]:
        """Tell again what stands behind *after*, from memory if it is there; it may be ahead of the cursor.

        Raises:
            LogPurged: some of it is deleted.
            StorageUnavailable: the database does not answer.
        """
        while after < self._recent_after:
            async with reading(self._pool) as connection:
                page = await events.read_page(connection, after)
                if after < await events.read_purged(connection):
                    raise LogPurged
            for event in page:
                yield FeedEvent(self._log_id, event)
            if len(page) < events.PAGE:
                return
            after = page[-1].position
        recent = takewhile(lambda kept: kept.position > after, reversed(self._recent))
        for kept in reversed([*recent]):
            yield kept

    async def find_holder(self) -> dict[str, Any] | None:
        """Return who holds back the events, if somebody does.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        async with reading(self._pool) as connection:
            return await events.find_holder(connection)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            self._poked.clear()
            is_behind = await self._follow()
            if not is_behind:
                self._behind_since = None
            elif self._behind_since is None:
                self._behind_since = _now()
            try:
                async with asyncio.timeout(_HORIZON_INTERVAL if is_behind else _POLL_INTERVAL):
                    await self._poked.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_PACE)

    async def watch(self) -> None:
        """Tell clients how far the feed is, and when events come late, until cancelled."""
        told_at = _now()
        while True:
            await asyncio.sleep(_POLL_INTERVAL)
            if (trouble := self._find_trouble()) != self.trouble:
                self.trouble = trouble
                self._hub.publish(TOPIC, _tell_trouble(self.trouble))
                log.warning("events come %s", f"late: {trouble}" if trouble else "in time again")
            if _now() - told_at >= _BOOKMARK_INTERVAL:
                self._hub.publish(TOPIC, self.bookmark())
                told_at = _now()

    def bookmark(self) -> Notice:
        """Tell that everything up to the present cursor was published."""
        return Notice("bookmark", cursor=str(self.cursor), at=tell_time(datetime.now(UTC)))

    def conditions(self) -> list[Notice]:
        """Tell whether events come late, and what the gate before the AI step is."""
        return [_tell_trouble(self.trouble), _tell_step(self.step)]

    def tell_step(self, state: str) -> None:
        """Tell what the gate before the AI step has become."""
        self.step = state
        self._hub.publish(TOPIC, _tell_step(state))

    async def _follow(self) -> bool:
        """Publish what is new, and return whether events stand above the horizon."""
        is_full = True
        while is_full:
            page = await self._session.run(lambda c: events.read_page(c, self._position))
            self._publish(page)
            self._read_at = _now()
            is_full = len(page) == events.PAGE
        return await self._session.run(lambda c: events.is_behind(c, self._position))

    def _publish(self, page: Sequence[LoggedEvent]) -> None:
        for logged in page:
            event = FeedEvent(self._log_id, logged)
            if len(self._recent) == RECENT:
                self._recent_after = self._recent[0].position
            self._recent.append(event)
            self._hub.publish(TOPIC, event)
            self._position = event.position
            self._heed(logged)

    def _heed(self, logged: LoggedEvent) -> None:
        """Let go of what is known of a call that was erased."""
        if logged.kind != EventKind.ERASED:
            return
        for event in self._recent:
            if event.logged.call_id == logged.call_id:
                event.forget()
        self._on_erased(logged.call_id)

    def _find_trouble(self) -> str | None:
        if _now() - self._read_at > _SILENCE:
            return "storage-unavailable"
        return "held-back" if self.lag > _LAG else None


def text_frame(text: str) -> bytes:
    """Return *text* as the frame that a WebSocket server sends (RFC 6455, 5.2)."""
    data = text.encode()
    size = len(data)
    if size < 126:  # the RFC's numbers
        return struct.pack("!BB", 0x81, size) + data
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + data
    return struct.pack("!BBQ", 0x81, 127, size) + data


def _tell_trouble(trouble: str | None) -> Notice:
    if trouble is None:
        return Notice("recovered", condition="trouble")
    return Notice("degraded", condition="trouble", reason=trouble)


def _tell_step(state: str) -> Notice:
    return Notice("ai_step", condition="step", state=state)


def _now() -> float:
    return asyncio.get_running_loop().time()


WELL: Final = {notice.condition: notice.frame for notice in (_tell_trouble(None), _tell_step("open"))}
"""The frames of the conditions that a client takes for granted."""
