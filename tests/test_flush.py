"""A flush by hand: what a batch leaves behind, in whatever order and how often it runs."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import pytest

from callactors.facts import Change, Event, EventKind, Facts, Row
from callactors.sequence import StreamSequence
from callactors.states import CallState
from callactors.store.connection import connect
from callactors.store.flush import CallChanges, Flushed, flush
from tests.storage import ME, OTHER, Sql, claim, new, packet

STREAM: Final = {"": StreamSequence(2, ((0, 0),))}
ROW: Final = Row(Facts(), STREAM, packets=1, late=0, duplicates=0)
CLEAN: Final = Flushed(frozenset(), frozenset(), False, 0)
COLUMNS: Final = (
    "state, version, packets, metadata, result, last_error, owner, wake_at, completed_at, finished_at"
)


@pytest.fixture
async def own(dsn: str) -> AsyncIterator[Sql]:
    """A connection as the journal has it."""
    connection = await connect(dsn)
    yield connection
    await connection.close()


def moved(version: int, state: CallState = CallState.PROCESSING_AI, **values: Any) -> Change:
    """A change to *version* with its event."""
    row = ROW._replace(facts=Facts(state=state, version=version), **values)
    event = Event(version, EventKind.TRANSITION, CallState.COMPLETED, state, 0, {})
    return Change(row=row, events=(event,))


async def run(connection: Sql, *changes: Change, owner: str = ME, later: int = 0) -> Flushed:
    """Flush *changes* of the call `c`, under its present epoch or one that is *later*."""
    [(number, epoch)] = await connection.fetch("select call_no, epoch from calls where call_id = 'c'")
    return await flush(connection, owner, [CallChanges(number, "c", epoch + later, changes)])


async def column(sql: Sql, name: str) -> Any:
    return await sql.fetchval(f"select {name} from calls where call_id = 'c'")


async def test_older_flush_that_ends_late_cannot_turn_the_call_back(own: Sql) -> None:
    await claim(own, ME, "c")
    await run(own, moved(3, CallState.ARCHIVED, packets=2, result=[3]))
    before = await own.fetchrow(f"select {COLUMNS} from calls")
    await run(own, moved(2, packets=2, metadata={"late": 1}))
    await run(own, moved(3, packets=1, metadata={"late": 1}))
    assert await own.fetchrow(f"select {COLUMNS} from calls") == before


async def test_batch_that_runs_twice_leaves_what_one_run_leaves(own: Sql) -> None:
    await claim(own, ME, "c")
    facts = Facts(state=CallState.COMPLETED, version=2, wake_in=60)
    change = moved(2)._replace(packets=(packet(1),), row=ROW._replace(facts=facts, metadata={"a": 1}))
    assert await run(own, change) == CLEAN._replace(wrote_events=True, packets=1)
    everything = "select c.*, p.*, e.* from calls c, packets p, call_events e"
    before = await own.fetch(everything)
    assert await run(own, change) == CLEAN._replace(wrote_events=True, packets=1)
    assert await own.fetch(everything) == before


async def test_batch_of_another_owner_or_epoch_stores_nothing(own: Sql) -> None:
    await claim(own, ME, "c")
    number = await column(own, "call_no")
    for owner, later in ((OTHER, 0), (ME, 1), (ME, -1)):
        change = moved(2)._replace(packets=(packet(1),))
        assert (await run(own, change, owner=owner, later=later)).fenced == {number}
    assert await own.fetchval("select count(*) from packets") == 0
    assert await own.fetchval("select max(version) from call_events") == 1
    assert await column(own, "version") == 1


async def test_fenced_call_does_not_keep_the_others_of_its_batch_back(own: Sql) -> None:
    lost, kept = await claim(own, OTHER, "lost"), await claim(own, ME, "c")
    calls = [CallChanges(c.call_no, c.call.call_id, c.epoch, [new(1), moved(2)]) for [c] in (lost, kept)]
    assert (await flush(own, ME, calls)).fenced == {lost[0].call_no}
    assert await own.fetchval("select array_agg(call_no) from packets") == [kept[0].call_no]
    assert await own.fetchval("select call_id from call_events where version = 2") == "c"


async def test_release_leaves_the_call_to_nobody(own: Sql) -> None:
    await claim(own, ME, "c")
    await run(own, Change(row=ROW._replace(is_released=True)))
    assert await column(own, "owner") is None
    assert (await run(own, new(1))).fenced, "the claim has ended with the release"


async def test_metadata_result_and_error_add_up_over_a_batch_and_over_batches(own: Sql) -> None:
    await claim(own, ME, "c")
    await run(
        own, moved(2, metadata={"a": 1, "b": 1}), moved(3, metadata={"b": 2}, last_error={"attempt": 1})
    )
    await run(own, moved(4, result={"text": "x"}), moved(5, metadata={"c": 3}))
    await run(own, moved(6))
    assert await column(own, "metadata") == '{"a": 1, "b": 2, "c": 3}'
    assert await column(own, "last_error") == '{"attempt": 1}'
    assert await column(own, "result") == '{"text": "x"}'
    assert await column(own, "version") == 6


async def test_time_of_the_last_packet_is_that_of_the_highest_of_all_streams(own: Sql) -> None:
    await claim(own, ME, "c")
    number = await column(own, "call_no")
    await own.execute(
        "insert into packets values ($1, 1, 0, '2026-01-02', 'a', ''), ($1, 7, 0, '2026-01-03', 'b', ''),"
        " ($1, 6, 0, '2026-01-04', 'b', '')",
        number,
    )
    streams = {"a": StreamSequence(2, ((0, 0),)), "b": StreamSequence(8, ((0, 5),))}
    await run(own, Change(row=ROW._replace(streams=streams, packets=3)))
    assert (await column(own, "last_packet_at")).isoformat() == "2026-01-03T00:00:00+00:00"


async def test_wake_is_counted_from_its_event_and_not_moved_by_later_rows(own: Sql) -> None:
    await claim(own, ME, "c")
    row = ROW._replace(facts=Facts(state=CallState.COMPLETED, version=2, wake_in=60))
    await run(own, Change(row=row))
    wake_at = await column(own, "wake_at")
    assert 59 < await column(own, "extract(epoch from wake_at - clock_timestamp())") <= 60
    await run(own, Change(row=row._replace(packets=5)))
    assert await column(own, "wake_at") == wake_at
    await run(own, Change(row=row._replace(packets=5, facts=replace(row.facts, version=3, wake_in=None))))
    assert await column(own, "wake_at") is None


async def test_a_packet_stored_with_other_data_is_told_although_nobody_knew_it(own: Sql) -> None:
    await claim(own, ME, "c")
    await run(own, new(1, "first"), new(2))
    number = await column(own, "call_no")
    told = await run(own, new(1, "other"), new(2), new(3))
    assert not told.fenced
    assert told.conflicts == {(number, 0)}
    assert await own.fetchval("select string_agg(data, ',' order by sequence) from packets") == "first,x,x"


async def test_runs_are_stored_and_what_is_new_in_them_is_counted(own: Sql) -> None:
    await claim(own, ME, "c")
    number = await column(own, "call_no")
    run_of = [packet(n, str(n)) for n in range(1, 6)]
    told = await run(own, Change(run_of[:2]), new(9), Change([packet(1, "a", "b"), packet(2, "b", "b")]))
    assert told == CLEAN._replace(packets=5)
    told = await run(own, new(10), Change(run_of[2:]), Change([packet(8), packet(9, "other"), packet(10)]))
    assert told == CLEAN._replace(conflicts=frozenset({(number, 2)}), packets=6)
    stored = await own.fetch("select stream, sequence, data from packets order by stream, sequence")
    assert [tuple(row) for row in stored] == [
        *(("", n, str(n)) for n in range(1, 6)),
        *(("", n, "x") for n in range(8, 11)),
        ("b", 1, "a"),
        ("b", 2, "b"),
    ]
    fenced = await run(own, Change([packet(20), packet(21)]), owner=OTHER)
    assert fenced == CLEAN._replace(fenced=frozenset({number}))
