"""Which errors of asyncpg and PostgreSQL mean that the same work may succeed later: each made for real."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from callactors.store.connection import is_transient
from callactors.store.embedded import EmbeddedPostgres
from tests.proxy import Wire, proxy_to
from tests.storage import PATIENCE, Sql, session, until, until_waiting

Scene = Callable[[str, Sql], Awaitable[object]]


async def not_null(_: str, sql: Sql) -> object:
    return await sql.execute("insert into nodes values ('n', null)")


async def unique(_: str, sql: Sql) -> object:
    return await sql.execute("insert into calls (call_id) values ('c'), ('c')")


async def nul_in_text(_: str, sql: Sql) -> object:
    return await sql.fetchval("select $1::text", "a\x00b")


async def nul_in_json(_: str, sql: Sql) -> object:
    return await sql.fetchval("select $1::jsonb", r'"\u0000"')


async def number_out_of_range(_: str, sql: Sql) -> object:
    return await sql.fetchval("select $1::int8", 2**63)


async def lone_surrogate(_: str, sql: Sql) -> object:
    return await sql.fetchval("select $1::text", "\ud800")


async def missing_function(_: str, sql: Sql) -> object:
    return await sql.execute("select flush_0()")


async def missing_database(dsn: str, _: Sql) -> object:
    return await asyncpg.connect(dsn, database="nowhere")


async def unknown_user(dsn: str, _: Sql) -> object:
    return await asyncpg.connect(dsn, user="nobody")


async def terminated(dsn: str, sql: Sql) -> object:
    async with session(dsn) as other:
        await sql.execute("select pg_terminate_backend($1)", other.get_server_pid())
        return await other.execute("select pg_sleep(10)")


async def closed(dsn: str, _: Sql) -> object:
    async with session(dsn) as other:
        await other.close()
        return await other.execute("select 1")


async def statement_timeout(_: str, sql: Sql) -> object:
    return await sql.execute("set statement_timeout = 1; select pg_sleep(10)")


async def command_timeout(_: str, sql: Sql) -> object:
    return await sql.execute("select pg_sleep(10)", timeout=0.01)


async def lock_timeout(dsn: str, sql: Sql) -> object:
    async with session(dsn) as other, other.transaction():
        await other.execute("lock table nodes")
        return await sql.execute("set lock_timeout = 1; lock table nodes")


async def deadlock(dsn: str, sql: Sql) -> object:
    await sql.execute("set deadlock_timeout = '10ms'")
    async with session(dsn) as other, session(dsn) as watch, other.transaction(), sql.transaction():
        await other.execute("set deadlock_timeout = '1min'; lock table nodes")
        await sql.execute("lock table calls")
        waiting = asyncio.create_task(other.execute("lock table calls"))
        await until_waiting(watch)
        try:
            return await sql.execute("lock table nodes")
        finally:
            await sql.execute("rollback")
            await waiting


async def serialization(dsn: str, sql: Sql) -> object:
    await sql.execute("insert into nodes values ('n', now())")
    async with session(dsn) as other, sql.transaction(isolation="repeatable_read"):
        await sql.execute("select from nodes")
        await other.execute("update nodes set node = 'm'")
        return await sql.execute("update nodes set node = 'o'")


async def read_only(_: str, sql: Sql) -> object:
    """As on a standby, which a name may lead to after a failover."""
    await sql.execute("set default_transaction_read_only = on")
    return await sql.execute("delete from nodes")


async def idle_in_transaction(dsn: str, sql: Sql) -> object:
    async with session(dsn) as other:
        await other.execute("set idle_in_transaction_session_timeout = 1; begin")
        await until(sql, "count(*) = 0 from pg_stat_activity where pid = $1", other.get_server_pid())
        return await other.execute("select 1")


async def refused(dsn: str, _: Sql) -> object:
    async with proxy_to(dsn) as proxy:
        proxy.refuse()
        return await asyncpg.connect(proxy.dsn)


async def no_socket(_dsn: str, _sql: Sql) -> object:
    return await asyncpg.connect("postgresql://u@/d?host=/nowhere&port=5432")


async def silence(dsn: str, _: Sql) -> object:
    async with proxy_to(dsn) as proxy:
        proxy.wire = Wire.BLACK_HOLE
        return await asyncpg.connect(proxy.dsn, timeout=0.05)


async def cut_while_connecting(dsn: str, _: Sql) -> object:
    async with proxy_to(dsn) as proxy:
        proxy.wire = Wire.DEAF
        connecting = asyncio.create_task(asyncpg.connect(proxy.dsn))
        await proxy.dropped.wait()
        proxy.cut()
        return await connecting


TRANSIENT = [
    terminated,
    closed,
    statement_timeout,
    command_timeout,
    lock_timeout,
    deadlock,
    serialization,
    read_only,
    idle_in_transaction,
    refused,
    no_socket,
    silence,
    cut_while_connecting,
]
LASTING = [
    not_null,
    unique,
    nul_in_text,
    nul_in_json,
    number_out_of_range,
    lone_surrogate,
    missing_function,
    missing_database,
    unknown_user,
]


@pytest.mark.parametrize("scene", [*TRANSIENT, *LASTING])
async def test_error_is_transient_if_the_same_work_may_succeed_later(
    scene: Scene, dsn: str, sql: Sql
) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # which one is what the test asks
        await scene(dsn, sql)
    assert is_transient(caught.value) is (scene in TRANSIENT), repr(caught.value)


async def connect_until_refused(dsn: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            async with session(dsn):
                await asyncio.sleep(0.005)


async def test_server_that_is_shutting_down_takes_connections_later() -> None:
    async with EmbeddedPostgres(data_dir=None, settings={"fsync": "off"}) as postgres, session(postgres.dsn):
        assert postgres.pid is not None
        os.kill(postgres.pid, signal.SIGTERM)  # it lets its clients finish
        with pytest.raises(asyncpg.CannotConnectNowError) as caught:
            await connect_until_refused(postgres.dsn)
        assert is_transient(caught.value)
