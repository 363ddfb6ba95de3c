"""Servers, clients and supervisors: what a test opens is closed at its end, and logs are checked."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from callactors.testing import Databases
from tests.acceptance.checker import Report, check
from tests.acceptance.client import Client
from tests.acceptance.fixtures import Check, Connect, Serve, Watch
from tests.acceptance.history import Sql, Stored, read_stored
from tests.acceptance.server import QUICK, Server
from tests.acceptance.supervisor import Supervisor


@pytest.fixture
async def serve(dsn: str, tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server on the test's database with quick settings and those given by keyword."""
    async with AsyncExitStack() as stack:

        async def start(**settings: str | float) -> Server:
            place = Path(tempfile.mkdtemp(prefix="server-", dir=tmp_path))
            return await stack.enter_async_context(Server(place, dsn=dsn, settings={**QUICK, **settings}))

        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    callactors_databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """A server with quick settings for the tests of a module, which keep to calls of their own."""
    with callactors_databases.new() as dsn:
        async with Server(tmp_path_factory.mktemp("shared"), dsn=dsn) as server:
            yield server


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Return a client of a server."""
    async with AsyncExitStack() as stack:

        def open_client(server: Server) -> Client:
            client = Client(server)
            stack.push_async_callback(client.close)
            return client

        yield open_client


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """Return a supervisor of a client's server."""
    async with AsyncExitStack() as stack:

        async def open_supervisor(client: Client, since: str | None = None, **query: str) -> Supervisor:
            supervisor = Supervisor(client)
            stack.push_async_callback(supervisor.close)
            return await supervisor.connect(since, **query)

        yield open_supervisor


@pytest.fixture
def check_calls(sql: Sql) -> Check:
    """Compare a client's history with the test's database, and fail with the table if anything is wrong."""

    async def run(client: Client) -> Report:
        return _check_clean(client, await read_stored(sql))

    return run


@pytest.fixture
async def check_shared(shared: Server) -> AsyncIterator[Check]:
    """Do the same with the calls of the shared server that the client has sent."""
    sql = await asyncpg.connect(shared.dsn)

    async def run(client: Client) -> Report:
        stored = await read_stored(sql)
        own = {key.call_id for key in client.history.sent}
        return _check_clean(client, stored.of(own))

    yield run
    await sql.close()


def _check_clean(client: Client, stored: Stored) -> Report:
    report = check(client.history, stored)
    assert not report.findings, f"\n{report.table()}"
    return report


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory for an embedded PostgreSQL, which may run as another user: tmp_path is closed to those."""
    with tempfile.TemporaryDirectory(prefix="callactors-", ignore_cleanup_errors=True) as path:
        Path(path).chmod(0o711)
        yield Path(path, "data")
