"""A PostgreSQL server for the session, and a database of its own for each test: the plugin's."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

pytest_plugins = ["callactors.testing"]  # where the installed entry point is, it is there already


@pytest.fixture
def dsn(callactors_dsn: str) -> str:
    """The DSN of a migrated, empty database of the test's own."""
    return callactors_dsn


@pytest.fixture
async def sql(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the test's database, to look at what is stored."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()
