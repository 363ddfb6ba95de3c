"""What claims and flushes cost when tables have grown: counted in buffers, not in seconds."""

import json
from collections.abc import AsyncIterator
from typing import Final

import pytest

from callactors.facts import Change, Facts, Row
from callactors.sequence import StreamSequence
from callactors.store import due
from callactors.store.connection import connect
from callactors.store.flush import CallChanges, flush
from callactors.store.nodes import LEASE
from callactors.store.rows import Claimed, write_row
from tests.storage import ME, Sql, buffers, claim, new, repeat, session, until

FLUSH: Final = (
    "select * from flush_3($1, $2, $3, $4, $5, $6, array[1], $7, $8, null, $4, $5, $6, $8, $9, null)"
)
CLAIM: Final = "select * from claim_5($1, array[$2], array[true], '{}', false, 3, 3600)"
FEW: Final = 45
"""Buffers that one call may cost: a few indexes from root to leaf, and what is written."""


@pytest.fixture
async def own(dsn: str) -> AsyncIterator[Sql]:
    """A connection as the journal has it."""
    connection = await connect(dsn)
    yield connection
    await connection.close()


def checkpoint(packets: int, last: int) -> Change:
    streams = {"": StreamSequence(last + 1, ((0, 0),))}
    return Change(row=Row(Facts(), streams, packets, late=0, duplicates=0))


async def cost_of_flush(own: Sql, claimed: Claimed, change: Change) -> int:
    """Buffers of a flush of a packet, of its repeat, and of a row."""
    assert change.row is not None
    number, sequence = claimed.call_no, change.row.streams[""].next - 1
    row = json.dumps([write_row(number, change.row)])
    return await buffers(
        own, FLUSH, ME, [number], [claimed.epoch], [number], [""], [sequence], [1.0], ["x"], row
    )


async def test_packets_do_not_rewrite_their_call_while_a_snapshot_is_held(dsn: str, own: Sql) -> None:
    claimed = await claim(own, ME, *(f"c{i}" for i in range(20)))
    locks = (
        "select * from flush_3($1, $2, $3,"
        " '{}', '{}', '{}', '{}', '{}', '{}', null, '{}', '{}', '{}', '{}', null, null)"
    )
    arguments = (ME, [c.call_no for c in claimed], [c.epoch for c in claimed])
    async with session(dsn) as report, report.transaction(isolation="repeatable_read"):
        await report.fetchval("select count(*) from calls")
        before = await buffers(own, locks, *arguments)
        for sequence in range(1, 2_001):
            await flush(own, ME, [CallChanges(c.call_no, "", c.epoch, [new(sequence)]) for c in claimed])
        assert await buffers(own, locks, *arguments) <= 2 * before
    await own.execute("select pg_stat_force_next_flush()")
    statistics = "from pg_stat_user_tables where relname = $1"
    await until(own, f"n_tup_ins = 40000 {statistics}", "packets")
    assert await own.fetchval(f"select n_tup_upd {statistics}", "calls") == 0


async def test_plans_made_while_the_tables_were_empty_still_fit_when_they_are_not(own: Sql) -> None:
    """Functions and prepared statements keep their plans until the next analyze, a minute or more later."""
    await own.execute("alter table calls set (autovacuum_enabled = off)")
    await own.execute("alter table packets set (autovacuum_enabled = off)")
    for i in range(12):
        [claimed] = await claim(own, ME, f"early{i}")
        changes = [new(1), repeat(1), checkpoint(1, 1)]
        await flush(own, ME, [CallChanges(claimed.call_no, "", claimed.epoch, changes)])
        await flush(own, ME, [CallChanges(claimed.call_no, "", claimed.epoch, changes)])
    await own.execute("insert into calls (call_id) select 'bulk' || g from generate_series(1, 50000) g")
    await own.execute(
        "insert into packets select call_no, 1, 1, now(), '', 'x' from calls where owner is null"
    )
    assert await buffers(own, CLAIM, ME, "late") < FEW
    assert await buffers(own, CLAIM, ME, "bulk7") < FEW
    [claimed] = await claim(own, ME, "late")
    assert await cost_of_flush(own, claimed, checkpoint(1, 1)) < FEW
    assert await cost_of_flush(own, claimed, checkpoint(2, 1)) < FEW


async def test_call_with_very_many_packets_costs_no_more_than_another(own: Sql) -> None:
    """Also if the statistics say that calls have few packets."""
    [claimed, other] = await claim(own, ME, "long", "short")
    await flush(own, ME, [CallChanges(other.call_no, "", other.epoch, [new(1), checkpoint(1, 1)])])
    await own.execute("insert into packets select g, 1, 1, now(), '', 'x' from generate_series(100, 3000) g")
    await own.execute("analyze")
    await own.execute(
        "insert into packets select $1, g, 1, now(), '', 'x' from generate_series(2, 50000) g",
        claimed.call_no,
    )
    gap = Row(Facts(), {"": StreamSequence(50_001, ((0, 1),))}, packets=49_999, late=0, duplicates=0)
    await flush(own, ME, [CallChanges(claimed.call_no, "", claimed.epoch, [Change(row=gap)])])
    await buffers(own, CLAIM, ME, "short")  # what a session reads once, of the catalog, does not count
    assert await buffers(own, CLAIM, ME, "long") < FEW
    claimed, other = await claim(own, ME, "long", "short")
    await cost_of_flush(own, other, checkpoint(2, 2))
    assert await cost_of_flush(own, claimed, checkpoint(50_000, 50_001)) < FEW


async def test_calls_that_wait_for_long_cost_the_sweep_nothing(own: Sql) -> None:
    await own.execute(
        "insert into calls (call_id, wake_at)"
        " select 'later' || g, now() + interval '1 day' from generate_series(1, 20000) g"
    )
    await own.execute("insert into calls (call_id, wake_at) values ('due', now())")
    page = await due.read_due(own, ME, due.FIRST, may_take_stale=True, lease=LEASE)
    assert page == due.DuePage([due.Due("due", is_in_progress=True)], None)
    assert await buffers(own, due._DUE, *due.FIRST, ME, True, LEASE, due.PAGE) < FEW
