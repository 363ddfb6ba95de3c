"""Claims and flushes of several servers at the same calls: what is locked, when, and in which order."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeAlias

import pytest

from callactors.store.flush import CallChanges, flush
from callactors.store.rows import Claimed
from tests.storage import ME, OTHER, Sql, claim, locked, new, session, until, until_waiting

Work: TypeAlias = Coroutine[Any, Any, object]


async def test_call_made_by_another_while_a_claim_looks_is_unknown_or_mine(dsn: str, sql: Sql) -> None:
    """Never a call in progress that is not mine: it would be answered without being locked."""
    await claim(sql, OTHER, "held")
    async with session(dsn) as other, session(dsn) as mine:
        async with locked(dsn, "held"):
            looking = asyncio.create_task(claim(mine, ME, "held", "new", "newer", creates=False))
            await until_waiting(sql)
            await claim(other, OTHER, "new")
            blocker = other.transaction()
            await blocker.start()
            await other.execute("select from calls where call_id = 'new' for no key update")
        is_stopped = "state = 'idle' or $2 = any (pg_blocking_pids(pid)) from pg_stat_activity where pid = $1"
        await until(sql, is_stopped, mine.get_server_pid(), other.get_server_pid())
        await claim(sql, OTHER, "newer")
        await blocker.rollback()
        found = await looking
    assert all(claimed.is_mine for claimed in found)


@pytest.mark.parametrize("step", ["claim", "flush"])
async def test_calls_are_locked_in_the_order_of_their_ids(dsn: str, sql: Sql, step: str) -> None:
    """By claims and flushes alike, so that they cannot lock each other out."""
    claimed = [(await claim(sql, ME, call_id))[0] for call_id in ("c", "b", "a")]
    async with session(dsn) as own:
        async with locked(dsn, "b"):
            is_claim = step == "claim"
            work: Work = claim(own, ME, "c", "a", "b") if is_claim else flush_all(own, claimed)
            working = asyncio.create_task(work)
            await until_waiting(sql)
            free = await sql.fetch("select call_id from calls for no key update skip locked")
            assert [row["call_id"] for row in free] == ["c"]
        await working


async def flush_all(sql: Sql, claimed: list[Claimed]) -> None:
    await flush(sql, ME, [CallChanges(c.call_no, c.call.call_id, c.epoch, [new(1)]) for c in claimed])


async def test_calls_are_made_in_the_order_of_their_ids(dsn: str, sql: Sql) -> None:
    async with session(dsn) as own, session(dsn) as other:
        async with other.transaction():
            await claim(other, OTHER, "b")
            making = asyncio.create_task(claim(own, ME, "c", "a", "b"))
            await until_waiting(sql)
            await sql.execute("set lock_timeout = '1s'")
            await claim(sql, OTHER, "c")
        assert all(claimed.is_mine for claimed in await making)
