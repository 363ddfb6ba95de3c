"""Connections: how they are set up, the wait for a server that is not up yet, and the pool for reads."""

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from callactors.errors import DatabaseUnreachable, StorageUnavailable, UnsafeDurability
from callactors.store import connection
from callactors.store.connection import (
    check_durability,
    close_pool,
    connect,
    open_pool,
    reading,
    wait_for_database,
)
from callactors.store.embedded import EmbeddedPostgres
from tests.proxy import Wire, proxy_to
from tests.storage import PATIENCE, Sql, session, until_true


async def reload_settings(dsn: str) -> None:
    """Return when new sessions have what is in the files now."""
    async with session(dsn) as sql:
        before = await sql.fetchval("select pg_conf_load_time()")
        await sql.execute("select pg_reload_conf()")
    is_loaded = False
    while not is_loaded:
        async with session(dsn) as sql:
            is_loaded = await sql.fetchval("select pg_conf_load_time() > $1", before)


async def test_wrong_password_is_told_at_once(dsn: str, sql: Sql) -> None:
    guest = dsn.replace("callactors@", "guest:wrong@")
    rules = Path(await sql.fetchval("show hba_file"))
    before = rules.read_text()
    await sql.execute("create role guest login password 'right'")
    try:
        rules.write_text("local all guest scram-sha-256\n" + before)
        await reload_settings(dsn)
        with pytest.raises(DatabaseUnreachable, match="password authentication failed"):
            await asyncio.wait_for(wait_for_database(guest, patience=3600), PATIENCE)
    finally:
        rules.write_text(before)
        await reload_settings(dsn)
        await sql.execute("drop role guest")


async def test_missing_database_is_told_at_once(dsn: str) -> None:
    missing = urlsplit(dsn)._replace(path="/nowhere").geturl()
    with pytest.raises(DatabaseUnreachable, match='"nowhere" does not exist; check DATABASE_URL'):
        await asyncio.wait_for(wait_for_database(missing, patience=3600), PATIENCE)


@pytest.mark.parametrize("url", ["mysql://localhost/calls", "nonsense", "postgresql://localhost:port/calls"])
async def test_url_that_is_none_is_told_at_once(url: str) -> None:
    with pytest.raises(DatabaseUnreachable):
        await asyncio.wait_for(wait_for_database(url, patience=3600), PATIENCE)


async def test_server_that_is_not_up_yet_is_waited_for_and_that_is_said_once(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy_to(dsn) as proxy:
        proxy.refuse()
        waiting = asyncio.create_task(wait_for_database(proxy.dsn, patience=PATIENCE))
        await until_true(lambda: bool(caplog.messages))
        proxy.wire = Wire.DEAF
        await proxy.listen()
        await proxy.dropped.wait()
        proxy.cut()
        proxy.wire = Wire.PASS
        await waiting
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("waiting up to 10 s for the database: ")


async def test_server_that_does_not_come_up_is_given_up(dsn: str) -> None:
    async with proxy_to(dsn) as proxy:
        proxy.refuse()
        with pytest.raises(DatabaseUnreachable, match="Connect call failed"):
            await wait_for_database(proxy.dsn, patience=0)


async def test_connections_are_durable_and_wait_for_nothing_for_ever(dsn: str, sql: Sql) -> None:
    """Whatever the database's own defaults are."""
    name = await sql.fetchval("select current_database()")
    await sql.execute(f"alter database {name} set synchronous_commit = off")
    await sql.execute(f"alter database {name} set default_transaction_isolation = serializable")
    async with proxy_to(dsn) as proxy:
        own, pool = await connect(proxy.dsn), await open_pool(dsn, size=1)
        async with reading(pool) as lent:
            for each in (own, lent):
                assert await each.fetchval("show synchronous_commit") == "on"
                assert await each.fetchval("show transaction_isolation") == "read committed"
                for timeout in ("statement", "lock", "idle_in_transaction_session"):
                    assert await each.fetchval(f"show {timeout}_timeout") != "0"
        sock = own._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        await own.close()
        await close_pool(pool)


async def test_server_that_may_lose_commits_is_refused_unless_that_is_wanted(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnsafeDurability, match="fsync = off, full_page_writes = off"):
        await check_durability(dsn, is_unsafe_allowed=False)
    await check_durability(dsn, is_unsafe_allowed=True)
    assert "a 202 does not survive a crash" in caplog.text


async def test_server_as_it_comes_is_durable(caplog: pytest.LogCaptureFixture) -> None:
    async with EmbeddedPostgres(data_dir=None) as postgres:
        await check_durability(postgres.dsn, is_unsafe_allowed=False)
    assert "survive" not in caplog.text


async def test_read_that_breaks_is_unavailable_and_the_next_one_is_not(dsn: str, sql: Sql) -> None:
    async def break_off() -> None:
        async with reading(pool) as lent:
            await sql.execute("select pg_terminate_backend($1)", lent.get_server_pid())
            await lent.execute("select pg_sleep(10)")

    pool = await open_pool(dsn, size=1)
    with pytest.raises(StorageUnavailable):
        await break_off()
    async with reading(pool) as lent:
        assert await lent.fetchval("select 1") == 1
    await close_pool(pool)


async def test_read_that_finds_no_connection_free_is_unavailable(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await open_pool(dsn, size=1)
    async with reading(pool):
        monkeypatch.setattr(connection, "ACQUIRE_TIMEOUT", 0.01)
        with pytest.raises(StorageUnavailable):
            async with reading(pool):
                pass
    await close_pool(pool)


async def test_pool_closes_with_a_connection_still_lent(dsn: str, sql: Sql) -> None:
    pool = await open_pool(dsn, size=2)
    lent = await pool.acquire()
    await close_pool(pool)
    with pytest.raises(asyncpg.InterfaceError):
        await lent.execute("select 1")
    with pytest.raises(StorageUnavailable):
        async with reading(pool):
            pass


async def test_a_read_that_the_database_refuses_is_told_as_away(dsn: str) -> None:
    pool = await open_pool(dsn, size=1)
    for statement in ("select * from no_such_table", "select pg_sleep(0.001), 1 / 0"):
        with pytest.raises(StorageUnavailable):
            async with reading(pool) as lent:
                await lent.fetch(statement)
    with pytest.raises(KeyError):
        async with reading(pool):
            raise KeyError
    await close_pool(pool)
