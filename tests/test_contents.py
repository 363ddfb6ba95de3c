"""What the AI step reads of calls: those that are asked for meanwhile are read together.

Tried: calls that are gone, a database that is away, and readers that are stopped while they are asked.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from asyncpg.connection import LoggedQuery

from callactors.errors import StorageUnavailable, UnknownCall
from callactors.store.connection import Pool, close_pool, open_pool
from callactors.store.contents import Contents, ContentsReader
from tests.proxy import proxy_to
from tests.storage import ME, Sql, claim


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    pool = await open_pool(dsn, size=1)
    yield pool
    await close_pool(pool)


async def test_calls_that_are_asked_for_meanwhile_are_read_together(pool: Pool, sql: Sql) -> None:
    await claim(sql, ME, *map(str, range(50)))
    await sql.execute("update calls set metadata = jsonb_build_object('id', call_id)")
    statements: list[LoggedQuery] = []
    async with pool.acquire() as connection:  # there is no other one
        connection.add_query_logger(statements.append)
    reader = ContentsReader(pool)
    running = asyncio.create_task(reader.run())
    found = await asyncio.gather(*(reader.read(str(n)) for n in range(50)), reader.read("7"))
    assert [one.metadata["id"] for one in found] == [*map(str, range(50)), "7"]
    assert len([one for one in statements if "metadata" in one.query]) == 1
    running.cancel()


async def test_a_call_that_is_gone_or_erased_is_unknown_and_the_others_are_read(pool: Pool, sql: Sql) -> None:
    await claim(sql, ME, "here", "erased")
    await sql.execute("update calls set erased_at = now() where call_id = 'erased'")
    reader = ContentsReader(pool)
    running = asyncio.create_task(reader.run())
    names = ("here", "erased", "gone")
    here, *others = await asyncio.gather(*map(reader.read, names), return_exceptions=True)
    assert isinstance(here, Contents)
    assert [type(one) for one in others] == [UnknownCall, UnknownCall]
    running.cancel()


async def test_while_the_database_is_away_all_who_ask_are_told_and_later_ones_are_served(
    dsn: str, sql: Sql
) -> None:
    await claim(sql, ME, "a", "b")
    async with proxy_to(dsn) as proxy:
        pool = await open_pool(proxy.dsn, size=1)
        reader = ContentsReader(pool)
        running = asyncio.create_task(reader.run())
        proxy.refuse()
        found = await asyncio.gather(reader.read("a"), reader.read("b"), return_exceptions=True)
        assert [type(one) for one in found] == [StorageUnavailable, StorageUnavailable]
        await proxy.listen()
        assert isinstance(await reader.read("a"), Contents)
        running.cancel()
        await close_pool(pool)


async def test_who_asks_a_reader_that_is_stopped_is_told(pool: Pool) -> None:
    reader = ContentsReader(pool)
    running = asyncio.create_task(reader.run())
    async with pool.acquire():  # so that it has to wait
        asked = asyncio.create_task(reader.read("a"))
        while not reader._asked:  # noqa: ASYNC110  # nothing tells that it has begun
            await asyncio.sleep(0)
        later = asyncio.create_task(reader.read("b"))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        reader.close()
        found = await asyncio.gather(asked, later, return_exceptions=True)
    assert [type(one) for one in found] == [StorageUnavailable, StorageUnavailable]
