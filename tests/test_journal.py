"""The journal: who is told what, in which order, and what is stored then."""

import asyncio
from typing import Final

import pytest

from callactors.facts import Change, Event, EventKind, Facts, Row
from callactors.sequence import StreamSequence
from callactors.states import CallState
from callactors.store.journal import Journal
from callactors.store.writer import Verdict
from tests.storage import (
    ME,
    OTHER,
    Sql,
    Ticket,
    claim,
    journal_of,
    locked,
    new,
    packet,
    repeat,
    running,
    session,
    stored,
    submit,
    unstorable,
    until_waiting,
    verdicts,
    writer_of,
)

STORED, CONFLICT, FENCED = Verdict.STORED, Verdict.CONFLICT, Verdict.FENCED
REFUSED, RETURNED = Verdict.REFUSED, Verdict.RETURNED
ROW: Final = Row(Facts(), {"": StreamSequence(2, ((0, 0),))}, packets=1, late=0, duplicates=0)
EVENT: Final = Event(2, EventKind.TRANSITION, CallState.IN_PROGRESS, CallState.COMPLETED, 0, {})


async def test_newer_claim_waits_for_the_older_flush_and_sees_what_it_was_told(dsn: str, sql: Sql) -> None:
    [older] = await claim(sql, ME, "c")
    async with journal_of(dsn) as journal, session(dsn) as rival, session(dsn) as third:
        async with third.transaction():
            await third.execute("insert into packets values ($1, 3, 1, now(), '', 'x')", older.call_no)
            tickets = submit(writer_of(journal, older), new(1)._replace(row=ROW), new(2), new(3))
            await until_waiting(
                sql
            )  # the flush: it holds the call's lock and waits for the third packet's key
            newer = asyncio.create_task(claim(rival, OTHER, "c"))
            await until_waiting(sql, 2)
            await third.execute("delete from packets")
        assert await verdicts(tickets) == [STORED] * 3
        [taken] = await newer
    assert taken.epoch == older.epoch + 1
    assert taken.call.packets == 3


async def test_flush_behind_a_newer_claim_is_fenced_and_stores_nothing(dsn: str, sql: Sql) -> None:
    [older] = await claim(sql, ME, "c")
    async with journal_of(dsn) as journal, session(dsn) as rival:
        async with locked(dsn, "c"):
            newer = asyncio.create_task(claim(rival, OTHER, "c"))
            await until_waiting(sql)
            writer = writer_of(journal, older)
            tickets = submit(writer, new(1), new(2), Change(row=ROW, events=(EVENT,)))
            await until_waiting(sql, 2)
        assert await verdicts(tickets) == [FENCED] * 3
        [taken] = await newer
        assert taken.call.packets == 0
        [later] = submit(writer, new(4))
        assert later.verdict.result() is FENCED, "without asking the database"
    assert await stored(sql) == []
    assert await sql.fetchval("select count(*) from call_events") == 1


async def test_changes_behind_a_refused_one_come_back_and_are_not_stored(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    order: list[Ticket] = []
    async with journal_of(dsn) as journal:
        async with locked(dsn, "c"):
            writer = writer_of(journal, claimed)
            changes = [new(1), Change((unstorable(2),)), new(3)]
            tickets = submit(writer, *changes, order=order)
            await until_waiting(sql)
            tickets += submit(writer, new(4), Change(row=ROW, events=(EVENT,)), order=order)
        assert await verdicts(tickets) == [STORED, REFUSED, RETURNED, RETURNED, RETURNED]
        assert order == tickets
        [later] = submit(writer, new(5))
        assert later.verdict.result() is RETURNED, "without asking the database"
        await writer.drained()
    assert await stored(sql) == [("c", 1, "x")]
    assert await sql.fetchval("select count(*) from call_events") == 1


async def test_one_bad_change_among_the_calls_of_a_batch_is_the_only_one_refused(dsn: str, sql: Sql) -> None:
    claimed = await claim(sql, ME, *(f"c{i:03}" for i in range(500)))
    journal = Journal(dsn, ME, on_events=lambda: None)
    bad = Change((unstorable(1),))
    tickets = [
        submit(writer_of(journal, call), bad if i == 321 else new(1))[0] for i, call in enumerate(claimed)
    ]
    async with running(journal):
        found = await verdicts(tickets)
    assert [i for i, verdict in enumerate(found) if verdict is not STORED] == [321]
    assert found[321] is REFUSED
    assert len(await stored(sql)) == 499


async def test_refusal_is_logged_without_the_data(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(dsn) as journal:
        await verdicts(submit(writer_of(journal, claimed), Change((unstorable(1),))))
    assert "call c: the database refuses a change: CharacterNotInRepertoireError" in caplog.text
    assert "a\x00b" not in caplog.text


async def test_duplicate_is_settled_after_its_original_that_is_in_flight(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    order: list[Ticket] = []
    async with journal_of(dsn) as journal:
        async with locked(dsn, "c"):
            writer = writer_of(journal, claimed)
            tickets = submit(writer, new(1), order=order)
            await until_waiting(sql)
            tickets += submit(writer, repeat(1), order=order)
            assert not order
        assert await verdicts(tickets) == [STORED, STORED]
    assert order == tickets
    assert await stored(sql) == [("c", 1, "x")]


async def test_repeat_with_other_data_is_a_conflict_in_the_same_batch_and_later(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(dsn) as journal:
        writer = writer_of(journal, claimed)
        tickets = submit(writer, new(1, "first"), repeat(1, "other"), repeat(1, "first"), new(2))
        assert await verdicts(tickets) == [STORED, CONFLICT, STORED, STORED]
        tickets = submit(writer, repeat(1, "other"), repeat(1, "first"), new(3))
        assert await verdicts(tickets) == [CONFLICT, STORED, STORED]
    assert await stored(sql) == [("c", 1, "first"), ("c", 2, "x"), ("c", 3, "x")]


async def test_repeat_may_carry_another_timestamp(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(dsn) as journal:
        later = Change((packet(1).model_copy(update={"timestamp": 9.0}),), is_repeat=True)
        assert await verdicts(submit(writer_of(journal, claimed), new(1), later)) == [STORED, STORED]
    assert await sql.fetchval("select timestamp from packets") == 1.0


async def test_poke_comes_after_a_commit_with_events_and_not_without(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    pokes: list[None] = []
    journal = Journal(dsn, ME, on_events=lambda: pokes.append(None))
    async with running(journal):
        writer = writer_of(journal, claimed)
        await verdicts(submit(writer, new(1)))
        assert pokes == []
        await verdicts(submit(writer, Change(row=ROW, events=(EVENT,))))
        assert pokes == [None]
