"""A snapshot of the calls for who begins to watch them: read in parts, once for all who begin together."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Set
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, TypeAlias

from callactors.packets import EndReason
from callactors.states import CallState
from callactors.store import listing, summaries
from callactors.store.connection import Connection
from callactors.store.events import Cursor
from callactors.store.summaries import Place, Summary

PART: Final = 25  # calls: what is held for a client while it reads, and what one turn of the loop has to do
ENDED: Final = 500  # calls
SHARED: Final = 1.0  # seconds from its beginning for which a snapshot is given to others, and each part of it

Reading: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]
"""Lends a connection for one read."""


class Row(NamedTuple):
    """A call in a snapshot: what it may be chosen by, and its summary in JSON."""

    call_id: str
    state: CallState
    end_reason: EndReason | None
    text: str


class Beginning(NamedTuple):
    """Where a part begins: behind *place*, and with *left* calls to come of those that have ended."""

    has_ended: bool = False
    place: Place | None = None
    left: int = 0


class Part(NamedTuple):
    """Calls, and where the part behind them begins; None if this is the last."""

    rows: list[Row]
    next: Beginning | None


class Snapshots:
    """Hands snapshots out, the same to all who ask within SHARED seconds of the first."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._shared: Snapshot | None = None

    def begin(self, cursor: Cursor, call_ids: Set[str]) -> "Snapshot":
        """Return a snapshot of *call_ids*, or else one of all, which may have begun at an older cursor."""
        if call_ids:
            return Snapshot(cursor, self._reading, call_ids)
        if self._shared is None:
            self._shared = Snapshot(cursor, self._reading)
            asyncio.get_running_loop().call_later(SHARED, self.forget)
        return self._shared

    def forget(self) -> None:
        """Let whoever asks next begin a new one."""
        self._shared = None


class Snapshot:
    """The calls of *call_ids*, or else those that have not ended and the ENDED that ended last.

    It is of no earlier time than its cursor. Who reads a part within SHARED seconds of another is given the
    same: supervisors come back all at once, and each would have the database read all anew.
    """

    def __init__(self, cursor: Cursor, reading: Reading, call_ids: Set[str] = frozenset()) -> None:
        self.cursor = cursor
        self._reading = reading
        self._call_ids = call_ids
        self._parts: dict[Beginning, Part] = {}
        self._turn = asyncio.Lock()

    async def parts(self) -> AsyncIterator[Part]:
        """Yield all parts. No connection is held while one is looked at.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        beginning: Beginning | None = Beginning()
        while beginning is not None:
            part = await self._part(beginning)
            yield part
            beginning = part.next

    async def _part(self, beginning: Beginning) -> Part:
        async with self._turn:
            part = self._parts.get(beginning)
            if part is None:
                part = self._parts[beginning] = await self._read(beginning)
                asyncio.get_running_loop().call_later(SHARED, self._parts.pop, beginning)
            return part

    async def _read(self, beginning: Beginning) -> Part:
        if self._call_ids:
            async with self._reading() as connection:
                named = await listing.read_named(connection, listing.Filters(), list(self._call_ids))
            return Part([_row(summary) for summary in named], None)
        if not beginning.has_ended:
            async with self._reading() as connection:
                page = await summaries.read_live(connection, beginning.place, PART)
            ended = Beginning(has_ended=True, left=ENDED)
            if page:
                return Part(_rows(page), Beginning(place=page[-1][0]) if len(page) == PART else ended)
            beginning = ended
        wanted = min(PART, beginning.left)
        async with self._reading() as connection:
            page = await summaries.read_ended(connection, beginning.place, wanted)
        left = beginning.left - len(page)
        is_last = len(page) < wanted or not left
        return Part(_rows(page), None if is_last else Beginning(True, page[-1][0], left))


def _rows(page: list[tuple[Place, Summary]]) -> list[Row]:
    return [_row(summary) for _, summary in page]


def _row(summary: Summary) -> Row:
    text = json.dumps(summary, separators=(",", ":"))
    return Row(summary["call_id"], summary["state"], summary["end_reason"], text)
