"""The plans of every hot statement on grown tables, those of statements inside functions too.

The product's connections set enable_seqscan = off; here the planner is free, and must not want one. The plans
are those that debug_print_plan tells of (auto_explain is not in every PostgreSQL).
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg
import pytest

from callactors.facts import Change, Event, EventKind, Facts, Row
from callactors.feed import FAR, RECENT
from callactors.sequence import StreamSequence
from callactors.states import CallState
from callactors.store import (
    calls,
    claims,
    connection,
    deliveries,
    due,
    erasure,
    events,
    history,
    listing,
    purge,
    replays,
    summaries,
)
from callactors.store.deliveries import Settled
from callactors.store.flush import CallChanges, flush
from callactors.store.journal import JournalLimits
from callactors.store.listing import Filters, Sort
from callactors.store.nodes import LEASE
from callactors.store.replays import Selection
from tests.storage import ME, OTHER, Sql, new, repeat

GROWN: Final = (
    """
insert into calls (call_id, owner, state, attempt_running, wake_at, streams, packets, finished_at)
select 'bulk' || g, case when g % 100 = 0 then 'me/1' when g % 2 = 0 then 'other/1' end,
    case when g % 100 = 0 then 'IN_PROGRESS' else 'ARCHIVED' end, g % 10000 = 0,
    case when g % 1000 = 0 then now() - interval '1 s' when g % 50 = 0 then now() + interval '1 h' end,
    '{"": {"last": 1, "missing": [[0, 0]]}}', 1, case when g % 100 <> 0 then now() end
from generate_series(1, 100000) g
""",
    "insert into packets select call_no, g, 1, now(), '', 'x' from calls, generate_series(1, 2) g",
    "insert into packets select 1, g, 1, now(), '', 'x' from generate_series(3, 50000) g",
    """
insert into call_events (xid, call_no, version, call_id, kind, to_state, attempt, detail)
select (1 + call_no / 200)::text::xid8, call_no, 1, call_id, 'transition', 'IN_PROGRESS', 0, '{}' from calls
order by call_no
""",
    "insert into nodes values ('me/1', now())",
    "insert into webhook_endpoints (endpoint_id, url, events, secret) values ('e', 'u', '{}', 's')",
    """
insert into deliveries (call_no, version, endpoint_id, message_id, due_at, delivered_at)
select call_no, 1, 'e', 'msg_' || call_no, case when call_no <= 100 then now() end,
    case when call_no > 200 then now() end from calls
""",
    "analyze",
)
BIG: Final = ("calls", "packets", "call_events", "deliveries")
_RELATION: Final = re.compile(r"\{RANGETBLENTRY .*?:rtekind (?:0 :relid (\d+)|\d+)")
_SCAN: Final = re.compile(
    r"\{(SEQSCAN|INDEXSCAN|INDEXONLYSCAN|BITMAPINDEXSCAN) .*?scanrelid (\d+)"
    r"(?: :indexid (\d+)(?: :isshared \w+)? :indexqual (<>)?)?"
)
_FUNCTION: Final = re.compile(r'function "?(\w+)')


class Scan(NamedTuple):
    """How a plan reads a table: by a range of an index, all of an index, or without one from end to end."""

    table: str
    index_name: str | None
    is_whole: bool
    functions: frozenset[str]
    """Those the statement is in."""


class Planner:
    """The plans that a session's statements get."""

    def __init__(self, sql: Sql, names: dict[int, str], partial_indexes: set[str]) -> None:
        self.sql = sql
        self._names = names
        self._partial_indexes = partial_indexes
        self._told: list[tuple[str, str]] = []
        sql.add_log_listener(self._hear)

    async def scans(self, scene: "Scene", *, but_for: str = "") -> list[Scan]:
        """Return how the plans made for *scene*, after *but_for*, read the big tables; both are undone."""
        self._told.clear()
        transaction = self.sql.transaction()
        await transaction.start()
        await self.sql.execute(f"{but_for}; discard plans; set local client_min_messages = log")
        await self.sql.execute("set local debug_print_plan = on")
        await scene(self.sql)
        await transaction.rollback()
        return [scan for plan, context in self._told for scan in self._read(plan, context)]

    def _hear(self, _: object, message: Any) -> None:
        if message.message == "plan:":
            self._told.append((" ".join(message.detail.split()), message.context or ""))

    def _read(self, plan: str, context: str) -> Iterator[Scan]:
        relations = [int(number or 0) for number in _RELATION.findall(plan)]
        functions = frozenset(_FUNCTION.findall(context))
        for kind, position, index_id, no_condition in _SCAN.findall(plan):
            table = self._names.get(relations[int(position) - 1], "")
            if table not in BIG:
                continue
            index = self._names[int(index_id)] if index_id else None
            is_whole = kind == "SEQSCAN" or (bool(no_condition) and index not in self._partial_indexes)
            yield Scan(table, index, is_whole, functions)


async def claim_new(sql: Sql, count: int) -> None:
    ids = [f"new{i}" for i in range(count)]
    assert len(await sql.fetch(claims._CLAIM, ME, ids, [True] * count, [], True, LEASE, 60.0)) == count


async def claim_stored(sql: Sql, count: int) -> None:
    ids = [f"bulk{i}" for i in range(1, count + 1)]
    assert len(await sql.fetch(claims._CLAIM, ME, ids, [False] * count, [], True, LEASE, 60.0)) == count


async def flush_all(sql: Sql, count: int) -> None:
    """New packets, stored ones under a lost answer, repeats, rows and events, each of *count* calls."""
    numbers = [100 * (i + 1) for i in range(count)]
    row = Row(Facts(), {"": StreamSequence(4, ((0, 0),))}, packets=3, late=0, duplicates=1)
    event = Event(2, EventKind.TRANSITION, CallState.IN_PROGRESS, CallState.COMPLETED, 0, {})
    changes = [new(2), new(3), repeat(1), Change(row=row, events=(event,))]
    flushed = await flush(sql, ME, [CallChanges(n, f"bulk{n}", 1, changes) for n in numbers])
    assert not flushed.fenced
    assert not flushed.conflicts


async def read_call(sql: Sql) -> None:
    assert await sql.fetchrow(calls._READ, "bulk7")
    assert await sql.fetchval(calls._DATA, "bulk7", "", 1) == "x"


async def list_calls(sql: Sql, sort: Sort, states: Sequence[str] | None = None) -> None:
    """Pages in the middle, one that finds what it wants and one that does not."""
    filters = Filters(states=states, prefix="bulk9")
    page = await listing.read_page(sql, filters._replace(prefix=None), sort, limit=2)
    assert len((await listing.read_page(sql, filters, sort, limit=2, after=page.next)).calls) == 2
    nothing = filters._replace(end_reasons=["poison"])
    assert not (await listing.read_page(sql, nothing, sort, limit=2, after=page.next)).calls


async def name_calls(sql: Sql) -> None:
    assert len(await listing.read_named(sql, Filters(), [f"bulk{i}" for i in range(1, 101)])) == 100


async def read_snapshot(sql: Sql) -> None:
    [*_, (number, _)] = await summaries.read_live(sql, None, 100)
    assert len(await summaries.read_live(sql, number, 100)) == 100
    [*_, (number, _)] = await summaries.read_ended(sql, None, 100)
    assert len(await summaries.read_ended(sql, number, 100)) == 100


async def read_history(sql: Sql) -> None:
    assert len((await history.read_events(sql, "", "bulk7", after=0, limit=10)).lines) == 1
    assert len((await history.read_packets(sql, "bulk1", "", after=9, limit=10)).lines) == 10


async def sweep(sql: Sql) -> None:
    page = await due.read_due(sql, ME, due.FIRST, may_take_stale=True, lease=LEASE)
    assert len(page.calls) == 100
    await due.read_orphans(sql, OTHER, may_take_stale=True, lease=LEASE)
    await due.read_lost_streams(sql, ME, may_take_stale=True, lease=LEASE)


async def erase_call(sql: Sql) -> None:
    await erasure.erase(sql, "bulk1", "admin")
    assert len(await erasure.read_unscrubbed(sql)) == 1
    assert await erasure.scrub(lambda work: work(sql), 1)


async def purge_calls(sql: Sql) -> None:
    """One that is larger than a batch, and a batch of others."""
    await sql.execute("update calls set finished_at = now() - interval '1 d' where call_no between 1 and 200")
    horizon = await purge.read_horizon(sql, timedelta(hours=1))
    await sql.execute("update calls set packets = 50000 where call_no = 1")
    batch = await purge.purge_batch(sql, horizon, purge.FIRST)
    assert (batch.purged, batch.to_scrub) == (0, [1])
    assert await erasure.scrub(lambda work: work(sql), 1)
    assert (await purge.purge_batch(sql, horizon, purge.FIRST)).purged == purge.CALLS


async def read_events(sql: Sql) -> None:
    assert len(await events.read_newest(sql, RECENT)) == RECENT
    assert await events.is_far(sql, events.START, FAR - 1)
    assert len(await events.read_page(sql, events.START)) == events.PAGE


async def deliver(sql: Sql) -> None:
    await sql.execute("update call_events set to_state = 'ARCHIVED' where call_no between 1 and 300")
    taken = await deliveries.take(sql, {"e": 1}, most=11, lease=30.0)
    assert len(taken) == 10
    await deliveries.settle(sql, [Settled(delivery, "200", is_delivered=True) for delivery in taken])
    assert (await deliveries.read_backlog(sql)).pending == 90


async def replay_deliveries(sql: Sql) -> None:
    await sql.execute("update call_events set to_state = 'ARCHIVED' where call_no between 1 and 300")
    hour = timedelta(hours=1)
    for which, count in (
        (Selection(message="msg_300"), 1),
        (Selection(call="bulk299", endpoint="e"), 1),
        (Selection(undelivered=hour), 202),
        (Selection(failed=hour, endpoint="e"), 100),
    ):
        assert len(await replays.list_deliveries(sql, which, limit=1_000)) == count
        if which.undelivered is None:
            assert await replays.replay(sql, which) == count


async def poll_events(sql: Sql) -> None:
    for _ in range(10):  # from the sixth time on the plan may be one for all parameters
        assert not await events.is_behind(sql, events.Position(2**62, 0))


Scene: TypeAlias = Callable[[Sql], Awaitable[None]]
_CLAIMS: Final = frozenset({"claim_5", "tail_1"})
_FLUSHES: Final = frozenset({"flush_3", "stored_otherwise_1", "last_packet_at_1"})
SCENES: Final[dict[Scene, frozenset[str]]] = {
    partial(claim_new, count=1): _CLAIMS,
    partial(claim_new, count=claims._BATCH): _CLAIMS,
    partial(claim_stored, count=1): _CLAIMS | {"last_received_1"},
    partial(claim_stored, count=claims._BATCH): _CLAIMS | {"last_received_1"},
    partial(flush_all, count=1): _FLUSHES,
    partial(flush_all, count=JournalLimits().batch): _FLUSHES,
    read_call: frozenset({"tail_1"}),
    partial(list_calls, sort=Sort.START): frozenset({"tail_1"}),
    partial(list_calls, sort=Sort.START, states=["IN_PROGRESS"]): frozenset({"tail_1"}),
    partial(list_calls, sort=Sort.TRANSITION): frozenset({"tail_1"}),
    partial(list_calls, sort=Sort.CALL_ID): frozenset({"tail_1"}),
    name_calls: frozenset({"tail_1"}),
    read_snapshot: frozenset(),
    read_history: frozenset(),
    sweep: frozenset(),
    erase_call: frozenset(),
    purge_calls: frozenset({"purge_1"}),
    deliver: frozenset(),
    replay_deliveries: frozenset(),
}
"""What is done, and the functions whose statements read the big tables then."""

NEEDED: Final[dict[str, Scene]] = {
    "alter table calls drop constraint calls_call_id_key": partial(claim_stored, count=1),
    "alter table calls drop constraint calls_pkey cascade; drop index calls_started_at": partial(
        flush_all, count=1
    ),
    "alter table packets drop constraint packets_pkey": partial(flush_all, count=1),
    "drop index calls_wake_at": sweep,
    "drop index calls_attempt_running, calls_live": sweep,
    "drop index call_events_log": poll_events,
    "drop index calls_started_at": partial(list_calls, sort=Sort.START),
    "drop index calls_live, calls_started_at": read_snapshot,
    "drop index calls_finished_at": read_snapshot,
    "drop index calls_finished_at, calls_live": purge_calls,
    "drop index deliveries_due": deliver,
    "drop index deliveries_message": replay_deliveries,
    "drop index deliveries_undelivered": replay_deliveries,
    "alter table call_events drop constraint call_events_pkey": partial(list_calls, sort=Sort.TRANSITION),
    "alter table call_events drop constraint call_events_call_no_version_key": read_history,
}


@pytest.fixture
async def planner(dsn: str) -> AsyncIterator[Planner]:
    """A session of the product on grown tables, but for its enable_* switches."""
    settings = {k: v for k, v in connection._SERVER_SETTINGS.items() if not k.startswith("enable_")}
    sql = await asyncpg.connect(dsn, server_settings=settings)
    for statement in GROWN:
        await sql.execute(statement)
    names = {r["oid"]: r["relname"] for r in await sql.fetch("select oid, relname from pg_class")}
    partial_indexes = await sql.fetch("select indexrelid from pg_index where indpred is not null")
    yield Planner(sql, names, {names[number] for (number,) in partial_indexes})
    await sql.close()


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_no_statement_of_a_call_reads_a_whole_table(planner: Planner, mode: str) -> None:
    await planner.sql.execute(f"set plan_cache_mode = {mode}")
    for scene, functions in SCENES.items():
        scans = await planner.scans(scene)
        assert [scan for scan in scans if scan.is_whole] == [], scene
        assert functions <= {name for scan in scans for name in scan.functions}, scene


async def test_reading_events_reads_no_more_than_a_page(planner: Planner) -> None:
    assert [scan for scan in await planner.scans(read_events) if scan.is_whole] == []


async def test_looking_for_newer_events_reads_none(planner: Planner) -> None:
    assert [scan for scan in await planner.scans(poll_events) if scan.is_whole] == []


async def test_a_missing_index_shows(planner: Planner) -> None:
    for removal, scene in NEEDED.items():
        assert any(scan.is_whole for scan in await planner.scans(scene, but_for=removal)), removal
