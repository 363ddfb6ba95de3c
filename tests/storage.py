"""What the tests of the store share: claims by hand, a running journal, tickets, locks that others hold."""

import asyncio
import json
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from callactors.facts import Change
from callactors.packets import Packet
from callactors.store.claims import Claims
from callactors.store.connection import close_pool, open_pool, reading
from callactors.store.journal import Journal, JournalLimits
from callactors.store.nodes import LEASE, Node
from callactors.store.rows import Claimed, read_claimed
from callactors.store.writer import Verdict, Writer

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ME, OTHER = "me/1", "other/1"
PATIENCE = 10.0
WAITING = "from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class Ticket:
    """Keeps its verdict; a second one would raise InvalidStateError."""

    def __init__(
        self, change: Change, order: list["Ticket"] | None = None, *, is_awaited: bool = True
    ) -> None:
        self.change = change
        self.is_awaited = is_awaited
        self.count = self.size = 0
        self.verdict: Future[Verdict] = asyncio.get_running_loop().create_future()
        self._order = order

    def settle(self, verdict: Verdict) -> None:
        self.verdict.set_result(verdict)
        if self._order is not None:
            self._order.append(self)


def packet(sequence: int, data: str = "x", stream: str = "") -> Packet:
    return Packet(sequence=sequence, data=data, timestamp=1.0, stream=stream)


def unstorable(sequence: int) -> Packet:
    """A packet that no validation has seen: PostgreSQL's text has no NUL."""
    return Packet.model_construct(sequence=sequence, data="a\x00b", timestamp=1.0, stream="")


def new(sequence: int, data: str = "x", stream: str = "") -> Change:
    return Change((packet(sequence, data, stream),))


def repeat(sequence: int, data: str = "x") -> Change:
    return Change((packet(sequence, data),), is_repeat=True)


def submit(writer: Writer, *changes: Change, order: list[Ticket] | None = None) -> list[Ticket]:
    """Submit *changes*; *order* takes their tickets as they are settled."""
    tickets = [Ticket(change, order) for change in changes]
    for ticket in tickets:
        writer.submit(ticket)
    return tickets


async def verdicts(tickets: Sequence[Ticket]) -> list[Verdict]:
    async with asyncio.timeout(PATIENCE):
        return [await ticket.verdict for ticket in tickets]


async def claim(
    sql: Sql,
    owner: str,
    *call_ids: str,
    creates: bool = True,
    takes: bool = True,
    may_take_stale: bool = False,
) -> list[Claimed]:
    """Claim by hand, as `Claims` does it."""
    records = await sql.fetch(
        "select * from claim_5($1, $2, $3, $4, $5, $6, 3600)",
        owner,
        list(call_ids),
        [creates] * len(call_ids),
        [] if takes else list(call_ids),
        may_take_stale,
        LEASE,
    )
    by_id = {record["call_id"]: read_claimed(record) for record in records}
    return [by_id[call_id] for call_id in call_ids if call_id in by_id]


@asynccontextmanager
async def journal_of(dsn: str, owner: str = ME, **limits: Any) -> AsyncIterator[Journal]:
    """A journal that runs."""
    journal = Journal(dsn, owner, on_events=lambda: None, limits=JournalLimits(**limits))
    async with running(journal):
        yield journal


@asynccontextmanager
async def running(journal: Journal) -> AsyncIterator[None]:
    """Run *journal*, and close it at the end."""
    run = asyncio.create_task(journal.run())
    try:
        yield
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        journal.close()


@asynccontextmanager
async def claims_of(dsn: str, on_events: Callable[[], None] = lambda: None) -> AsyncIterator[Claims]:
    """Claims that run, for a node of their own."""
    claims = Claims(dsn, Node(dsn, "node"), on_events=on_events)
    run = asyncio.create_task(claims.run())
    try:
        yield claims
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        claims.close()


def writer_of(journal: Journal, claimed: Claimed) -> Writer:
    return journal.writer(claimed.call_no, claimed.call.call_id, claimed.epoch)


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[Sql]:
    """One more connection."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def reader(dsn: str, *, mode: str = "auto") -> AsyncIterator[Sql]:
    """A connection as the read side has it; *mode* is the plan_cache_mode."""
    pool = await open_pool(dsn, size=1)
    try:
        async with reading(pool) as connection:
            await connection.execute(f"set plan_cache_mode = {mode}")
            yield connection
    finally:
        await close_pool(pool)


@asynccontextmanager
async def locked(dsn: str, call_id: str) -> AsyncIterator[None]:
    """Hold the lock of the call's row in a session of its own."""
    async with session(dsn) as other, other.transaction():
        await other.execute("select from calls where call_id = $1 for no key update", call_id)
        yield


async def until(sql: Sql, claim: str, *arguments: object) -> None:
    """Wait until *claim*, an SQL condition, holds."""
    async with asyncio.timeout(PATIENCE):
        while not await sql.fetchval(f"select {claim}", *arguments):  # noqa: ASYNC110  # others commit
            await asyncio.sleep(0.005)


async def until_true(claim: Callable[[], bool]) -> None:
    """Wait until *claim* is true, of something that sets no event."""
    async with asyncio.timeout(PATIENCE):
        while not claim():  # noqa: ASYNC110  # as said
            await asyncio.sleep(0.005)


async def until_waiting(sql: Sql, count: int = 1) -> None:
    """Wait until *count* sessions of this database wait for a lock."""
    await until(sql, f"count(*) = $1 {WAITING}", count)


async def stored(sql: Sql) -> list[tuple[str, int, str]]:
    """Every packet: call id, sequence, data."""
    records = await sql.fetch(
        "select c.call_id, p.sequence, p.data from packets p join calls c using (call_no) order by 1, 2"
    )
    return [tuple(record) for record in records]


async def buffers(sql: Sql, query: str, *arguments: object) -> int:
    """How many buffers *query* touches, those of the functions it calls included."""
    plan = json.loads(await sql.fetchval(f"explain (analyze, buffers, format json) {query}", *arguments))
    return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])


async def rows_read(sql: Sql) -> int:
    """How many rows of `calls` and `call_events`, or entries of their indexes, *sql*'s session has read."""
    await sql.execute("select pg_stat_force_next_flush()")
    await sql.execute("select pg_stat_clear_snapshot()")
    return int(
        await sql.fetchval(
            "select sum(seq_tup_read + (select sum(idx_tup_read) from pg_stat_user_indexes i"
            " where i.relid = t.relid))::bigint from pg_stat_user_tables t where relname like 'call%'"
        )
    )
