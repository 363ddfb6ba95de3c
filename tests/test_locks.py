"""Another session holds one call's row: its changes and claims wait, in order, and nobody else's do.

Tried: a lock held while packets come, one that is released, two of them, a batch that is split behind one, a
stop while one is held, and another session that makes the same call.
"""

import asyncio
import logging

import pytest

from callactors.errors import StorageUnavailable
from callactors.facts import Change
from callactors.store.locks import RETRY_INTERVAL, find_locked
from callactors.store.writer import Verdict
from tests.storage import (
    ME,
    OTHER,
    Sql,
    Ticket,
    claim,
    claims_of,
    journal_of,
    locked,
    new,
    session,
    stored,
    submit,
    unstorable,
    until_true,
    verdicts,
    writer_of,
)

STORED, REFUSED, RETURNED, ABANDONED = Verdict.STORED, Verdict.REFUSED, Verdict.RETURNED, Verdict.ABANDONED


async def test_rows_that_others_hold_are_found(dsn: str, sql: Sql) -> None:
    await claim(sql, ME, "a", "b", "c")
    async with locked(dsn, "a"), locked(dsn, "c"):
        assert await find_locked(sql, ["a", "b", "c", "unknown"]) == {"a", "c"}
    assert await find_locked(sql, ["a", "b", "c"]) == set()


async def test_changes_of_a_locked_call_wait_in_order_and_those_of_others_do_not(dsn: str, sql: Sql) -> None:
    held, free = await claim(sql, ME, "held", "free")
    order: list[Ticket] = []
    async with journal_of(dsn) as journal:
        writer = writer_of(journal, held)
        async with locked(dsn, "held"):
            before = submit(writer, new(1), new(2), order=order)
            assert await verdicts(submit(writer_of(journal, free), new(1))) == [STORED]
            after = submit(writer, new(3), order=order)
            assert await verdicts(submit(writer_of(journal, free), new(2), new(3))) == [STORED] * 2
            assert journal.oldest is None
            assert not any(ticket.verdict.done() for ticket in [*before, *after])
        assert await verdicts([*before, *after]) == [STORED] * 3
        assert order == [*before, *after]
        assert (journal.items, journal.size) == (0, 0)
        async with asyncio.timeout(1):
            await journal.drain(timeout=5)
    assert await stored(sql) == [("free", n, "x") for n in (1, 2, 3)] + [("held", n, "x") for n in (1, 2, 3)]


async def test_locked_call_is_looked_at_again_although_a_flush_was_under_way_at_that_time(
    dsn: str, sql: Sql
) -> None:
    held, slow = await claim(sql, ME, "held", "slow")
    async with journal_of(dsn) as journal:
        async with locked(dsn, "held"):
            waiting = submit(writer_of(journal, held), new(1))
            await until_true(lambda: journal.oldest is None)
            async with locked(dsn, "slow"):
                flushed = submit(writer_of(journal, slow), new(1))
                await asyncio.sleep(1.4 * RETRY_INTERVAL)  # it tells nobody; the flush waits longer than that
            assert await verdicts(flushed) == [STORED]
        assert await verdicts(waiting) == [STORED]


async def test_locks_are_found_one_after_the_other(dsn: str, sql: Sql) -> None:
    claimed = await claim(sql, ME, "a", "b")
    async with journal_of(dsn) as journal:
        async with locked(dsn, "b"):
            async with locked(dsn, "a"):
                tickets = [ticket for one in claimed for ticket in submit(writer_of(journal, one), new(1))]
                await until_true(lambda: journal.oldest is None)
            assert await verdicts(tickets[:1]) == [STORED]
            assert not tickets[1].verdict.done()
        assert await verdicts(tickets) == [STORED] * 2


async def test_call_with_more_than_a_batch_waits_as_a_whole(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    held, free = await claim(sql, ME, "held", "free")
    order: list[Ticket] = []
    async with journal_of(dsn, batch=1) as journal:
        async with locked(dsn, "held"):
            tickets = submit(writer_of(journal, held), new(1), new(2), new(3), order=order)
            assert await verdicts(submit(writer_of(journal, free), new(1), new(2))) == [STORED] * 2
        assert await verdicts(tickets) == [STORED] * 3
    assert order == tickets
    assert [r.levelno for r in caplog.records if "held" in r.message] == [logging.WARNING]


async def test_change_that_the_database_refuses_is_found_although_there_is_a_lock(dsn: str, sql: Sql) -> None:
    [held] = await claim(sql, ME, "held")
    async with journal_of(dsn) as journal:
        async with locked(dsn, "held"):
            tickets = submit(writer_of(journal, held), new(1), Change((unstorable(2),)), new(3))
            await until_true(lambda: journal.oldest is None)
            assert not any(ticket.verdict.done() for ticket in tickets)
        assert await verdicts(tickets) == [STORED, REFUSED, RETURNED]
    assert await stored(sql) == [("held", 1, "x")]


async def test_change_that_waits_for_a_lock_is_abandoned_at_the_end(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    [held] = await claim(sql, ME, "held")
    async with locked(dsn, "held"):
        async with journal_of(dsn) as journal:
            tickets = submit(writer_of(journal, held), new(1))
            await until_true(lambda: journal.oldest is None)
            await journal.drain(timeout=0.1)
        assert await verdicts(tickets) == [ABANDONED]
    assert "stopping with 1 changes that are not stored" in caplog.text
    assert await stored(sql) == []


async def test_claim_of_a_locked_call_waits_and_those_of_others_do_not(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    await claim(sql, OTHER, "held", "free")
    async with claims_of(dsn) as claims:
        async with locked(dsn, "held"):
            waiting = asyncio.create_task(claims.claim("held", creates=True, takes=True))
            others = await asyncio.gather(
                *(claims.claim(name, creates=True, takes=True) for name in ("free", "new"))
            )
            assert all(claimed is not None and claimed.is_mine for claimed in others)
            assert not waiting.done()
            claims.admit(max_age=0)
        claimed = await waiting
    assert claimed is not None
    assert claimed.is_mine
    assert [r.levelno for r in caplog.records if "held" in r.message] == [logging.WARNING]


async def test_call_that_another_is_making_is_claimed_when_it_is_made(dsn: str, sql: Sql) -> None:
    async with session(dsn) as other, claims_of(dsn) as claims:
        async with other.transaction():
            await claim(other, OTHER, "c")
            waiting = asyncio.create_task(claims.claim("c", creates=True, takes=True))
            await until_true(lambda: claims.oldest is not None)
            assert not await sql.fetchval("select exists (select from calls)")
        claimed = await waiting
    assert claimed is not None


async def test_claim_that_waits_for_a_lock_is_answered_at_the_end(dsn: str, sql: Sql) -> None:
    await claim(sql, OTHER, "held")
    async with locked(dsn, "held"):
        async with claims_of(dsn) as claims:
            waiting = asyncio.create_task(claims.claim("held", creates=True, takes=True))
            await claims.claim("free", creates=True, takes=True)
            await until_true(lambda: claims.oldest is None)
        with pytest.raises(StorageUnavailable):
            await waiting
