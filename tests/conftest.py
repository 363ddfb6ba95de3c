"""A PostgreSQL server for the session, and a database of its own for each test."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

import asyncpg
import pytest

from callactors.store.embedded import EmbeddedPostgres
from callactors.store.migrations import migrate

T = TypeVar("T")

_FAST = {"fsync": "off", "full_page_writes": "off"}
_TEMPLATE = "callactors"


class _LoopThread:
    """A loop that outlives the tests' loops, for the server that all of them use."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running server without fsync; its database `callactors` is migrated and serves as a template."""
    thread = _LoopThread()
    server = EmbeddedPostgres(data_dir=None, settings=_FAST)
    try:
        thread.run(migrate(thread.run(server.start())))
        yield server
    finally:
        thread.run(server.stop())
        thread.close()


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The DSN of a migrated, empty database of the test's own."""
    admin = await asyncpg.connect(postgres.dsn, database="postgres")
    name = f"test_{threading.get_ident()}_{asyncio.get_running_loop().time():.6f}".replace(".", "_")
    await admin.execute(f"create database {name} template {_TEMPLATE} strategy file_copy")
    try:
        yield postgres.dsn.replace("/callactors?", f"/{name}?")
    finally:
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


@pytest.fixture
async def sql(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the test's database, to look at what is stored."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()
