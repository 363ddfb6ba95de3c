"""A pytest plugin: databases on a PostgreSQL that keeps nothing, and options with which no call waits."""

import asyncio
import threading
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, Self, TypeVar

import pytest

from callactors.options import SystemOptions
from callactors.retry import RetryPolicy
from callactors.store.connection import connected
from callactors.store.embedded import EmbeddedPostgres
from callactors.store.migrations import migrate

__all__ = ["Databases", "callactors_databases", "callactors_dsn", "callactors_options"]

T = TypeVar("T")

_FAST: Final = {"fsync": "off", "full_page_writes": "off"}


class Databases:
    """A PostgreSQL server that makes databases for tests, from `with` to its end.

    It lives on a loop in a thread of its own, so that tests may have any loop, or none.
    """

    def __init__(self) -> None:
        self._server = EmbeddedPostgres(data_dir=None, settings=_FAST)
        self._stack = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def new(self) -> Iterator[str]:
        """Lend the DSN of a database that has all tables, and nothing in them."""
        name = f"test_{uuid.uuid4().hex}"
        self._run(self._admin.execute(f"create database {name} template callactors"))
        try:
            yield self._dsn_of(name)
        finally:
            self._run(self._admin.execute(f"drop database {name} with (force)"))

    async def _start(self) -> None:
        await self._stack.enter_async_context(self._server)
        await migrate(self._server.dsn)
        self._admin = await self._stack.enter_async_context(connected(self._dsn_of("postgres")))

    def _dsn_of(self, name: str) -> str:
        return self._server.dsn.replace("/callactors?", f"/{name}?")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@pytest.fixture(scope="session")
def callactors_databases() -> Iterator[Databases]:
    """A PostgreSQL server for the session; `with callactors_databases.new() as dsn` lends a database."""
    with Databases() as databases:
        yield databases


@pytest.fixture
def callactors_dsn(callactors_databases: Databases) -> Iterator[str]:
    """The DSN of a database of the test's own, with all tables and nothing in them."""
    with callactors_databases.new() as dsn:
        yield dsn


@pytest.fixture
def callactors_options() -> SystemOptions:
    """Options for such a database; no call waits for its grace, nor between attempts, whoever asks for it."""
    return SystemOptions(
        node="test",
        grace=0.0,
        policy=RetryPolicy(max_delay=0.0),
        is_unsafe_durability_allowed=True,
    )
