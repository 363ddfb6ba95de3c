"""Session: a unit of work is run until it is through, whatever becomes of the connection."""

import asyncio
import logging
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from callactors.store.connection import Connection, Session
from tests.proxy import Wire, proxy_to
from tests.storage import Sql, until, until_true


@pytest.fixture
async def own(dsn: str) -> AsyncIterator[Session]:
    own = Session(dsn, "tester")
    yield own
    own.close()


async def pid(connection: Connection) -> int:
    """A unit of work that tells which connection it ran on."""
    found: int = await connection.fetchval("select pg_backend_pid()")
    return found


async def test_one_connection_serves_one_work_after_the_other(own: Session) -> None:
    assert await own.run(pid) == await own.run(pid)


async def test_work_is_run_again_on_a_new_connection_after_its_backend_was_terminated(
    own: Session, sql: Sql
) -> None:
    pids: list[int] = []

    async def work(connection: Connection) -> str:
        pids.append(connection.get_server_pid())
        if len(pids) < 3:
            await sql.execute("select pg_terminate_backend($1)", pids[-1])
            await connection.execute("select pg_sleep(10)")
        return "done"

    assert await own.run(work) == "done"
    assert len(set(pids)) == 3


async def test_loss_and_return_are_said_once_each(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "callactors")
    async with proxy_to(dsn) as proxy:
        own = Session(proxy.dsn, "tester")
        await own.run(pid)
        assert caplog.messages == []
        proxy.wire = Wire.DEAF  # each try gets as far as the server
        proxy.refuse()
        await proxy.listen()
        running = asyncio.create_task(own.run(pid))
        for _ in range(3):
            await proxy.dropped.wait()
            proxy.dropped.clear()
            proxy.cut()
        proxy.wire = Wire.PASS
        await running
        own.close()
    lost, back = caplog.messages
    assert lost.startswith("tester lost the database: ")
    assert back.startswith("tester has the database again after ")


async def test_error_that_will_last_is_raised_and_the_connection_kept(own: Session) -> None:
    before = await own.run(pid)
    with pytest.raises(asyncpg.UniqueViolationError):
        await own.run(lambda c: c.execute("insert into calls (call_id) values ('c'), ('c')"))
    with pytest.raises(ZeroDivisionError):
        await own.run(lambda c: c.fetchval("select $1::int", 1 // 0))
    assert await own.run(pid) == before


async def test_connection_is_given_up_after_a_timeout_as_its_statement_may_still_run(own: Session) -> None:
    before, tries = await own.run(pid), 0

    async def work(connection: Connection) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            await connection.execute("select pg_sleep(10)", timeout=0.01)
        return connection.get_server_pid()

    assert await own.run(work) != before


async def test_work_waits_while_the_database_can_only_be_read(own: Session, sql: Sql) -> None:
    """As on a standby, until the name leads to the new primary."""
    name = await sql.fetchval("select current_database()")
    await sql.execute(f"alter database {name} set default_transaction_read_only = on")
    tries = asyncio.Event()

    async def write(connection: Connection) -> str:
        try:
            return await connection.execute("insert into nodes values ('n', now())")
        except asyncpg.ReadOnlySQLTransactionError:
            tries.set()
            raise

    writing = asyncio.create_task(own.run(write))
    await tries.wait()
    await sql.execute("set default_transaction_read_only = off")
    await sql.execute(f"alter database {name} reset default_transaction_read_only")
    assert await writing == "INSERT 0 1"


async def test_database_that_refuses_this_user_for_a_while_is_asked_again(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    """Once the server runs, it is not ended by a password that is changed elsewhere first."""
    own = Session(urlsplit(dsn)._replace(netloc="late@").geturl(), "tester")
    connecting = asyncio.create_task(own.run(pid))
    await until_true(lambda: 'role "late" does not exist' in caplog.text)
    await sql.execute("create role late login")
    try:
        assert await connecting > 0
    finally:
        own.close()
        await sql.execute("drop role late")


async def test_session_goes_on_after_its_work_was_cancelled(own: Session, sql: Sql) -> None:
    sleeping = asyncio.create_task(own.run(lambda c: c.execute("select pg_sleep(10)")))
    await until(
        sql,
        "count(*) = 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    )
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert await own.run(pid) > 0


async def test_closed_session_opens_again(own: Session) -> None:
    before = await own.run(pid)
    own.close()
    assert await own.run(pid) != before
