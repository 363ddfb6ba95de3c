"""The journal: group commit of all calls' changes, and the one place that decides what was stored."""

import asyncio
import logging
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from callactors.counts import Histogram
from callactors.errors import Overloaded, StorageUnavailable
from callactors.logs import CallLog
from callactors.store.connection import RowsLocked, Session
from callactors.store.flush import CallChanges, Flushed, flush
from callactors.store.locks import LOCK_TIMEOUT, RETRY_INTERVAL, find_locked
from callactors.store.writer import Ticket, Verdict, Writer

log = logging.getLogger(__name__)

_LATELY: Final = 16  # batches after a shared one in which a call that is alone gets no more than its share
_ITEMS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)  # bounds of what is counted
_OVERHEAD: Final = 500  # bytes a waiting change takes beside its packet's data


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """Bounds of a journal; times in seconds, sizes in bytes and in items: packets, or changes without one."""

    items: int = 100_000
    size: int = 64 * 1024 * 1024
    max_age: float = 1.0
    batch: int = 1_000
    batch_size: int = 4 * 1024 * 1024
    share: int = 64
    """How many items one call may have in a batch that it shares with others."""
    unawaited: int = 16
    """How many items a batch may have that nobody waits for, as the steps that calls take by themselves."""


class Journal:
    """Commits the changes of all calls of *owner* in batches that form while the previous one is in flight.

    *on_events* is called after a commit that wrote events. Changes of one call are committed in order, by one
    connection.
    """

    def __init__(
        self,
        dsn: str,
        owner: str,
        *,
        on_events: Callable[[], None],
        committers: int = 1,
        limits: JournalLimits | None = None,
    ) -> None:
        self.limits = limits or JournalLimits()
        self.items = 0
        self.size = 0
        self.packets = 0
        """How many new packets were stored so far."""
        self.fenced = 0
        """How often a flush met a call that another owner has."""
        self.flush_seconds = Histogram()
        self.flush_items = Histogram(_ITEMS)
        self._committers = [
            _Committer(self, Session(dsn, f"committer {i + 1}", lock_timeout=LOCK_TIMEOUT), owner, on_events)
            for i in range(committers)
        ]

    async def run(self) -> None:
        """Commit until cancelled."""
        await asyncio.gather(*(committer.run() for committer in self._committers))

    async def drain(self, *, timeout: float) -> None:
        """Return when everything is settled, or after *timeout* seconds."""
        try:
            async with asyncio.timeout(timeout):
                for committer in self._committers:
                    await committer.is_idle.wait()
        except TimeoutError:
            log.error("stopping with %d changes that are not stored", self.items)

    def close(self) -> None:
        """Abandon what is left; `run` must have ended."""
        for committer in self._committers:
            committer.close()

    def writer(self, call_no: int, call_id: str, epoch: int) -> Writer:
        """Return the way in for the changes of one claim."""
        return Writer(self._committers[call_no % len(self._committers)], call_no, call_id, epoch)

    def admit(self) -> None:
        """Do nothing if a new change is welcome.

        Raises:
            StorageUnavailable: the oldest change has waited too long.
            Overloaded: too much is waiting.
        """
        if self.items == 0:
            return
        horizon = monotonic() - self.limits.max_age
        for committer in self._committers:
            oldest = committer.oldest
            if oldest is not None and oldest < horizon:
                raise StorageUnavailable
        if self.items >= self.limits.items or self.size >= self.limits.size:
            raise Overloaded("too many packets wait for the database")

    @property
    def oldest(self) -> float | None:
        """When the oldest change came that is not settled, by the monotonic clock."""
        return min((c.oldest for c in self._committers if c.oldest is not None), default=None)


_Part = tuple[Writer, list[Ticket]]


class _Committer:
    """One connection, one flush in flight, and the writers that have something for the next one."""

    def __init__(self, journal: Journal, session: Session, owner: str, on_events: Callable[[], None]) -> None:
        self._journal = journal
        self._session = session
        self._owner = owner
        self._on_events = on_events
        self._ready: deque[Writer] = deque()
        self._unawaited: dict[Writer, None] = {}  # ready too, but nobody waits for what they have
        self._locked: list[Writer] = []  # their calls' rows are held by others
        self._look_timer: TimerHandle | None = None
        self._is_to_look = False
        self._shared_lately = 0
        self._in_flight: list[_Part] = []
        self._in_flight_since: float | None = None
        self._has_work = asyncio.Event()
        self.is_idle = asyncio.Event()
        self.is_idle.set()

    @property
    def oldest(self) -> float | None:
        """When the oldest change came that is not settled."""
        if self._in_flight_since is not None:
            return self._in_flight_since
        return self._ready[0].since if self._ready else None

    def close(self) -> None:
        self._session.close()
        for writer, tickets in self._in_flight:
            settled = len(tickets) - (writer.unsettled - len(writer.waiting))  # in order, so the first ones
            writer.fail(tickets[settled:], Verdict.ABANDONED)
        for writer in (*self._ready, *self._unawaited, *self._locked):
            writer.fail([], Verdict.ABANDONED)

    def add(self, writer: Writer, ticket: Ticket) -> None:
        packets = ticket.change.packets
        if len(packets) == 1:
            ticket.count, ticket.size = 1, _OVERHEAD + len(packets[0].data)
        else:
            ticket.count = len(packets) or 1
            ticket.size = _OVERHEAD * ticket.count + sum([len(packet.data) for packet in packets])
        self._journal.items += ticket.count
        self._journal.size += ticket.size
        if len(writer.waiting) == 1:
            self._make_ready(writer, is_awaited=ticket.is_awaited)
        elif writer in self._unawaited and ticket.is_awaited:
            del self._unawaited[writer]
            self._make_ready(writer, is_awaited=True)

    def _make_ready(self, writer: Writer, *, is_awaited: bool) -> None:
        writer.since = monotonic()
        if not self._ready:
            self.is_idle.clear()
            self._has_work.set()
        if is_awaited:
            self._ready.append(writer)
        else:
            self._unawaited[writer] = None

    def remove(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._journal.items -= ticket.count
            self._journal.size -= ticket.size

    async def run(self) -> None:
        while True:
            await self._has_work.wait()
            if self._is_to_look:
                await self._look_again()
            self._in_flight, self._in_flight_since = self._gather()
            if self._in_flight:
                await self._commit(self._in_flight)
            self._in_flight, self._in_flight_since = [], None
            await asyncio.sleep(0)  # a batch costs more than a packet: let in what has arrived meanwhile
            if not (self._ready or self._unawaited or self._is_to_look):
                self._has_work.clear()
                if not self._locked:
                    self.is_idle.set()

    def _gather(self) -> tuple[list[_Part], float | None]:
        """Take a share of every ready writer, and another as long as all of them have more, until it is full.

        What one call sends flat out must not make the batches long in which, or behind which, others wait.
        """
        limits = self._journal.limits
        parts: dict[Writer, list[Ticket]] = {}
        since = self._ready[0].since if self._ready else None  # that only own steps wait is no lag
        now = monotonic()
        items = size = 0
        share = limits.share if len(self._ready) > 1 or self._shared_lately else limits.batch
        is_full = False
        while self._ready and not is_full and (not parts or 1 < len(parts) <= len(self._ready)):
            for _ in range(len(self._ready)):
                writer = self._ready.popleft()
                most = min(share, limits.batch - items)
                taken, its_items, its_size = writer.take(most, limits.batch_size - size, 0 if parts else 1)
                if not taken and not writer.waiting:
                    continue  # it failed while it waited here
                if not taken:
                    self._ready.appendleft(writer)
                    is_full = True
                    break
                parts.setdefault(writer, []).extend(taken)
                items += its_items
                size += its_size
                if writer.waiting:
                    writer.since = now  # a busy writer is not a late one
                    self._ready.append(writer)
        self._shared_lately = _LATELY if len(parts) > 1 else max(0, self._shared_lately - 1)
        self._add_unawaited(parts, limits.batch_size - size)
        return list(parts.items()), since

    def _add_unawaited(self, parts: dict[Writer, list[Ticket]], size: int) -> None:
        """Let own steps ride along, but so few that a batch does not become long by them.

        Thousands of calls that end at once would else be in front of every packet.
        """
        items = self._journal.limits.unawaited
        while self._unawaited and items > 0:
            writer = next(iter(self._unawaited))
            del self._unawaited[writer]
            taken, its_items, its_size = writer.take(items, size, 0 if parts else 1)
            if not taken and writer.waiting:
                self._unawaited[writer] = None
                break
            if taken:
                parts[writer] = taken
                items -= its_items
                size -= its_size
            if writer.waiting:
                self._unawaited[writer] = None

    async def _commit(self, parts: list[_Part]) -> None:
        """Flush *parts*; if the database refuses them, look for the guilty change by halves."""
        flushed: Flushed | None = None
        while parts and flushed is None:
            try:
                flushed = await self._flush(parts)
            except RowsLocked:
                parts = await self._set_aside(parts)
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one change, the others must go on
                if len(parts) > 1:
                    middle = len(parts) // 2
                    await self._commit(parts[:middle])
                    await self._commit(parts[middle:])
                else:
                    await self._commit_singly(*parts[0], error)
                return
        if flushed is not None:
            self._settle(parts, flushed)

    async def _set_aside(self, parts: list[_Part]) -> list[_Part]:
        """Let those of *parts* wait whose calls' rows somebody holds, and return the others."""
        locked = await self._find_locked(writer for writer, _ in parts)
        for writer, tickets in parts:
            if writer.call_id in locked:
                self._wait_aside(writer, tickets)
        return [(writer, tickets) for writer, tickets in parts if writer.call_id not in locked]

    def _wait_aside(self, writer: Writer, tickets: list[Ticket]) -> None:
        CallLog(log, writer.call_id).warning("another session holds its row; its changes wait")
        if writer in self._unawaited:
            del self._unawaited[writer]
        elif writer.waiting:
            self._ready.remove(writer)
        writer.waiting[:0] = tickets
        self._locked.append(writer)
        self._look_later()

    async def _look_again(self) -> None:
        """Let those join the others whose calls' rows are free by now."""
        self._is_to_look = False
        locked = await self._find_locked(self._locked)
        now = monotonic()
        for writer in self._locked:
            if writer.call_id not in locked:
                writer.since = now
                self._ready.append(writer)
        self._locked = [writer for writer in self._locked if writer.call_id in locked]
        self._look_later()

    def _look_later(self) -> None:
        if self._locked and self._look_timer is None:
            self._look_timer = asyncio.get_running_loop().call_later(RETRY_INTERVAL, self._look_now)

    def _look_now(self) -> None:
        self._look_timer = None
        self._is_to_look = True
        self._has_work.set()

    async def _find_locked(self, writers: Iterable[Writer]) -> set[str]:
        call_ids = [writer.call_id for writer in writers]
        return await self._session.run(lambda connection: find_locked(connection, call_ids))

    async def _commit_singly(self, writer: Writer, tickets: list[Ticket], error: Exception) -> None:
        """Commit one call's changes singly up to the guilty one; the later ones were decided on top of it."""
        for position, ticket in enumerate(tickets):
            try:
                flushed = await self._flush([(writer, [ticket])]) if len(tickets) > 1 else None
            except RowsLocked:
                self._wait_aside(writer, tickets[position:])
                return
            except Exception as its_error:  # noqa: BLE001  # as above
                flushed, error = None, its_error
            if flushed is None:
                # Only the class: the message of a data error repeats the data.
                CallLog(log, writer.call_id).error("the database refuses a change: %s", type(error).__name__)
                writer.settle([ticket], Verdict.REFUSED)
                writer.fail(tickets[position + 1 :], Verdict.RETURNED)
                return
            self._settle([(writer, [ticket])], flushed, tickets[position + 1 :])
            if flushed.fenced:
                return

    async def _flush(self, parts: list[_Part]) -> Flushed:
        calls = [
            CallChanges(w.call_no, w.call_id, w.epoch, [t.change for t in tickets]) for w, tickets in parts
        ]
        began = monotonic()
        flushed = await self._session.run(
            lambda connection: flush(connection, self._owner, calls), gives_way=True
        )
        self._journal.flush_seconds.add(monotonic() - began)
        self._journal.flush_items.add(sum([ticket.count for _, tickets in parts for ticket in tickets]))
        return flushed

    def _settle(self, parts: list[_Part], flushed: Flushed, behind: Sequence[Ticket] = ()) -> None:
        self._journal.packets += flushed.packets
        self._journal.fenced += len(flushed.fenced)
        for writer, tickets in parts:
            if writer.call_no in flushed.fenced:
                CallLog(log, writer.call_id).info("fenced, another owner has it")
                writer.fail([*tickets, *behind], Verdict.FENCED)
            else:
                writer.settle_stored(tickets, flushed.conflicts)
        if flushed.wrote_events:
            self._on_events()
