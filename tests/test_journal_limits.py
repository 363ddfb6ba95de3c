"""The journal when much is waiting: whose turn it is, what is admitted, and what is left at the end."""

import asyncio

import pytest

from callactors.errors import Overloaded, StorageUnavailable
from callactors.facts import Change
from callactors.store.journal import Journal, JournalLimits
from callactors.store.writer import Verdict
from tests.storage import (
    ME,
    PATIENCE,
    Sql,
    Ticket,
    claim,
    journal_of,
    locked,
    new,
    running,
    session,
    stored,
    submit,
    unstorable,
    until_true,
    until_waiting,
    verdicts,
    writer_of,
)

STORED, ABANDONED = Verdict.STORED, Verdict.ABANDONED


async def test_call_with_many_waiting_changes_delays_another_by_no_more_than_a_batch(
    dsn: str, sql: Sql
) -> None:
    loud, quiet = await claim(sql, ME, "loud", "quiet")
    order: list[Ticket] = []
    async with journal_of(dsn, batch=500) as journal:
        async with locked(dsn, "loud"):
            many = submit(writer_of(journal, loud), *map(new, range(5_000)), order=order)
            await until_waiting(sql)
            [one] = submit(writer_of(journal, quiet), new(1), order=order)
        assert set(await verdicts([*many, one])) == {STORED}
    assert order.index(one) < 2 * 500
    assert [ticket for ticket in order if ticket is not one] == many


async def test_a_batch_that_calls_share_has_no_more_than_a_share_of_each(dsn: str, sql: Sql) -> None:
    loud, quiet, blocked = await claim(sql, ME, "loud", "quiet", "blocked")
    async with journal_of(dsn, share=10) as journal:
        async with locked(dsn, "blocked"):
            tickets = submit(writer_of(journal, blocked), new(1))
            await until_waiting(sql)
            tickets += submit(writer_of(journal, loud), *map(new, range(500)))
            tickets += submit(writer_of(journal, quiet), new(1))
        assert set(await verdicts(tickets)) == {STORED}
    sizes = await sql.fetch("select count(*) from packets group by received_at order by min(received_at)")
    assert [row["count"] for row in sizes] == [1, 11, *[10] * 16, 330]  # others may come back


async def test_own_steps_of_many_calls_delay_a_packet_by_no_more_than_a_few(dsn: str, sql: Sql) -> None:
    ends = await claim(sql, ME, *map(str, range(100)))
    [live] = await claim(sql, ME, "live")
    order: list[Ticket] = []
    async with journal_of(dsn, unawaited=10) as journal:
        async with locked(dsn, "0"):
            steps = [Ticket(new(1), order, is_awaited=False) for _ in ends]
            for claimed, step in zip(ends, steps, strict=True):
                writer_of(journal, claimed).submit(step)
            await until_waiting(sql)
            [packet] = submit(writer_of(journal, live), new(1), order=order)
        assert set(await verdicts([*steps, packet])) == {STORED}
        await journal.drain(timeout=PATIENCE)
    assert order.index(packet) <= 20
    assert [ticket for ticket in order if ticket is not packet] == steps


async def test_a_packet_behind_a_step_of_its_own_call_is_not_made_to_wait_like_it(dsn: str, sql: Sql) -> None:
    *ends, live = await claim(sql, ME, *map(str, range(100)))
    order: list[Ticket] = []
    async with journal_of(dsn, unawaited=10) as journal:
        async with locked(dsn, "0"):
            for claimed in ends:
                writer_of(journal, claimed).submit(Ticket(new(1), order, is_awaited=False))
            writer = writer_of(journal, live)
            writer.submit(step := Ticket(new(1), order, is_awaited=False))
            await until_waiting(sql)
            [packet] = submit(writer, new(2), order=order)
        assert await verdicts([step, packet]) == [STORED, STORED]
        await journal.drain(timeout=PATIENCE)
    assert order.index(step) + 1 == order.index(packet) <= 21
    assert len(order) == 101


async def test_own_steps_that_are_left_are_abandoned_with_the_rest(dsn: str, sql: Sql) -> None:
    first, second = await claim(sql, ME, "a", "b")
    tickets = [Ticket(new(1), is_awaited=False) for _ in range(2)]
    async with locked(dsn, "a"), journal_of(dsn, unawaited=1) as journal:
        writer_of(journal, first).submit(tickets[0])
        writer_of(journal, second).submit(tickets[1])
        await until_waiting(sql)
        await journal.drain(timeout=0)
    assert await verdicts(tickets) == [ABANDONED, ABANDONED]


async def test_calls_that_all_have_more_than_a_share_fill_a_batch(dsn: str, sql: Sql) -> None:
    one, two, blocked = await claim(sql, ME, "one", "two", "blocked")
    async with journal_of(dsn, share=10, batch=150) as journal:
        async with locked(dsn, "blocked"):
            tickets = submit(writer_of(journal, blocked), new(1))
            await until_waiting(sql)
            tickets += submit(writer_of(journal, one), *map(new, range(100)))
            tickets += submit(writer_of(journal, two), *map(new, range(75)))
        assert set(await verdicts(tickets)) == {STORED}
    sizes = await sql.fetch("select count(*) from packets group by received_at order by min(received_at)")
    assert [row["count"] for row in sizes] == [1, 150, 15, 10]


async def test_a_batch_has_no_more_bytes_than_its_limit(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(dsn, batch_size=3_200) as journal:
        small = [new(sequence, "x" * 1_000) for sequence in range(9)]
        tickets = submit(writer_of(journal, claimed), *small, new(10, "x" * 9_000))
        assert set(await verdicts(tickets)) == {STORED}
    sizes = await sql.fetch("select count(*) from packets group by received_at order by min(received_at)")
    assert [row["count"] for row in sizes] == [2, 2, 2, 2, 1, 1]


async def test_changes_of_one_call_keep_their_order_over_many_batches(dsn: str, sql: Sql) -> None:
    claimed = await claim(sql, ME, "a", "b", "c")
    order: list[Ticket] = []
    async with journal_of(dsn, batch=7, share=3) as journal:
        writers = [writer_of(journal, call) for call in claimed]
        tickets = [submit(writer, *map(new, range(50)), order=order) for writer in writers]
        await asyncio.gather(*(writer.drained() for writer in writers))
        assert {ticket.verdict.result() for own in tickets for ticket in own} == {STORED}
    for own in tickets:
        assert [ticket for ticket in order if ticket in own] == own


@pytest.mark.parametrize("limits", [{"items": 2}, {"size": 2_000}])
async def test_full_journal_admits_no_more(dsn: str, sql: Sql, limits: dict[str, int]) -> None:
    [claimed] = await claim(sql, ME, "c")
    journal = Journal(dsn, ME, on_events=lambda: None, limits=JournalLimits(**limits))
    journal.admit()
    writer = writer_of(journal, claimed)
    tickets = submit(writer, new(1, "x" * 600))
    journal.admit()
    tickets += submit(writer, new(2, "x" * 600))
    with pytest.raises(Overloaded):
        journal.admit()
    async with running(journal):
        await verdicts(tickets)
        journal.admit()
    assert (journal.items, journal.size) == (0, 0)


async def test_journal_admits_nothing_while_its_oldest_change_waits_too_long(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    loop = asyncio.get_running_loop()
    async with journal_of(dsn, max_age=0.05) as journal:
        async with locked(dsn, "c"):
            tickets = submit(writer_of(journal, claimed), new(1))
            journal.admit()
            late = loop.time() + 0.05
            await until_true(lambda: loop.time() > late)
            with pytest.raises(StorageUnavailable):
                journal.admit()
        await verdicts(tickets)
        journal.admit()


async def test_call_that_always_has_something_waiting_does_not_look_like_an_outage(
    dsn: str, sql: Sql
) -> None:
    [claimed] = await claim(sql, ME, "c")
    loop = asyncio.get_running_loop()
    async with journal_of(dsn, batch=10) as journal:
        writer = writer_of(journal, claimed)
        began, sequence = loop.time(), 50
        tickets = submit(writer, *map(new, range(sequence)))
        while loop.time() < began + 0.5:
            await tickets.pop(0).verdict
            tickets += submit(writer, new(sequence))
            sequence += 1
        assert journal.oldest is not None
        assert journal.oldest > began + 0.25
        await verdicts(tickets)


async def test_drain_returns_when_everything_is_stored(dsn: str, sql: Sql) -> None:
    claimed = await claim(sql, ME, "a", "b")
    async with journal_of(dsn, batch=10) as journal:
        for call in claimed:
            submit(writer_of(journal, call), *map(new, range(100)))
        await journal.drain(timeout=PATIENCE)
        assert journal.items == 0
        assert len(await stored(sql)) == 200


async def test_drain_gives_up_and_close_abandons_what_is_left(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, other = await claim(sql, ME, "stuck", "other")
    journal = Journal(dsn, ME, on_events=lambda: None)
    async with locked(dsn, "stuck"):
        async with running(journal):
            tickets = submit(writer_of(journal, stuck), new(1))
            await until_waiting(sql)
            tickets += submit(writer_of(journal, other), new(1))
            await journal.drain(timeout=0)
        assert [ticket.verdict.result() for ticket in tickets] == [ABANDONED, ABANDONED]
    assert "stopping with 2 changes that are not stored" in caplog.text
    assert (journal.items, journal.size) == (0, 0)


async def test_close_abandons_only_what_was_not_settled_before(dsn: str, sql: Sql) -> None:
    """A batch that the database refuses is committed part by part; it is closed in the middle of that."""
    whole, bad = await claim(sql, ME, "whole", "bad")
    journal = Journal(dsn, ME, on_events=lambda: None)
    tickets = submit(writer_of(journal, whole), new(1))
    tickets += submit(writer_of(journal, bad), new(1), new(2), Change((unstorable(3),)))
    async with session(dsn) as third, third.transaction():
        await third.execute("insert into packets values ($1, 2, 1, now(), '', 'x')", bad.call_no)
        async with running(journal):
            assert await verdicts(tickets[:2]) == [STORED, STORED]
            await until_waiting(sql)
    assert [ticket.verdict.result() for ticket in tickets] == [STORED, STORED, ABANDONED, ABANDONED]
    assert (journal.items, journal.size) == (0, 0)
