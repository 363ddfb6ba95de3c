"""The embedded PostgreSQL comes back when it ends by itself."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg

from callactors.store.embedded import EmbeddedPostgres


async def _ask(dsn: str, query: str) -> object:
    """Ask until the server is there; the test's own timeout is the limit."""
    while True:
        try:
            connection = await asyncpg.connect(dsn)
            try:
                return await connection.fetchval(query)
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.02)


async def test_a_postgres_that_is_killed_comes_back_with_all_under_the_same_dsn(tmp_path: Path) -> None:
    async with EmbeddedPostgres(data_dir=tmp_path / "data") as postgres:
        first = postgres.pid
        assert first is not None
        await _ask(postgres.dsn, "create table t as select 7 as n")
        os.kill(first, signal.SIGKILL)
        assert await _ask(postgres.dsn, "select n from t") == 7
        while postgres.pid is None:  # noqa: ASYNC110  # another process starts
            await asyncio.sleep(0.02)
        assert postgres.pid != first


async def test_stop_ends_the_one_that_came_back(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(data_dir=tmp_path / "data")
    dsn = await postgres.start()
    pids = [postgres.pid]
    assert pids[0] is not None
    os.kill(pids[0], signal.SIGKILL)
    await _ask(dsn, "select 1")
    pids.append(postgres.pid)
    await postgres.stop()
    assert [pid for pid in pids if pid is not None and Path(f"/proc/{pid}").exists()] == []
