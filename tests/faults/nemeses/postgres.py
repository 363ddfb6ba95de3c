"""What happens to PostgreSQL."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from callactors.store.embedded import EmbeddedPostgres
from tests.acceptance.waiting import eventually
from tests.faults.evidence import Expected
from tests.faults.scene import Nemesis, Scene

_END: Final = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and application_name = 'callactors'"
)
_FROZEN: Final = 2.0
_LOCKED: Final = 2.5  # longer than a statement waits for a lock
_AWAY: Final = 1.5
_HELD: Final = 1.5
_FULL: Final = 2.0
_DISK: Final = {"data": "400m", "wal": "160m"}
_WAL: Final = {"min_wal_size": "32MB", "max_wal_size": "64MB", "wal_recycle": "off"}


async def restart_fast(scene: Scene) -> None:
    """Shut PostgreSQL down in order and start it again."""
    await _end_postgres(scene, signal.SIGINT)


async def restart_immediate(scene: Scene) -> None:
    """Stop PostgreSQL at once, so that it has to recover, and start it again."""
    await _end_postgres(scene, signal.SIGQUIT)


async def kill_postmaster(scene: Scene) -> None:
    """Kill -9 the postmaster and start PostgreSQL again."""
    await _end_postgres(scene, signal.SIGKILL)


async def _end_postgres(scene: Scene, number: int) -> None:
    pid = scene.postgres.pid
    assert pid is not None
    async with scene.fault():
        os.kill(pid, number)

        async def is_another() -> bool:
            return scene.postgres.pid not in (None, pid)

        await eventually(is_another, within=60)
        await scene.until_database()


async def kill_backend(scene: Scene) -> None:
    """Kill -9 one of the server's backends: PostgreSQL resets all of them."""
    async with scene.fault():
        async with scene.sql() as sql:
            pid = await sql.fetchval(_END.replace("pg_terminate_backend(pid)", "pid") + " order by random()")
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
        await scene.until_database()


async def freeze_postgres(scene: Scene) -> None:
    """SIGSTOP all of PostgreSQL's processes for some seconds."""
    pids = [*_family(scene.postgres.pid)]
    async with scene.fault():
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(_FROZEN)
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _family(pid: int | None) -> Iterator[int]:
    assert pid is not None
    yield pid
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(path.parent.name)


async def terminate_backends(scene: Scene) -> None:
    """End all of the server's connections by pg_terminate_backend, five times in a second."""
    async with scene.fault():
        for _ in range(5):
            await end_connections(scene)
            await asyncio.sleep(0.2)


async def end_connections(scene: Scene) -> None:
    """End the server's connections, once."""
    async with scene.sql() as sql:
        await sql.execute(_END)


async def refuse_logins(scene: Scene) -> None:
    """Let PostgreSQL refuse new connections to the database, and end those that there are."""
    name = urlsplit(scene.dsn).path.removeprefix("/")
    async with scene.admin() as sql, scene.fault():
        await sql.execute(f"alter database {name} allow_connections false")
        await sql.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
        await asyncio.sleep(_AWAY)
        await sql.execute(f"alter database {name} allow_connections true")


async def take_connections(scene: Scene) -> None:
    """Take every connection that PostgreSQL allows, and end those of the server."""
    taken = []
    async with scene.sql() as sql, scene.fault():
        for _ in range(2):
            await sql.execute(_END)
            with suppress(asyncpg.TooManyConnectionsError):
                while True:
                    taken.append(await asyncpg.connect(scene.dsn))  # until there are no more
        await asyncio.sleep(_AWAY)
        await asyncio.gather(*(connection.close() for connection in taken))


async def lock_table(scene: Scene) -> None:
    """Hold a lock on the table of calls for longer than a statement waits for it."""
    async with scene.sql() as sql, scene.fault(), sql.transaction():
        await sql.execute("lock table calls in access exclusive mode")
        await asyncio.sleep(_LOCKED)


async def lock_row(scene: Scene) -> None:
    """Hold the lock of one live call's row for longer than a statement waits for it."""
    query = "select from calls where state = 'IN_PROGRESS' order by call_no limit 1 for update"
    async with scene.sql() as sql, scene.fault(), sql.transaction():
        await sql.execute(query)
        await asyncio.sleep(_LOCKED)


async def alter_table(scene: Scene) -> None:
    """Add a column to each table under load, as a migration of a newer version would, and drop it."""
    async with scene.sql() as sql, scene.fault():
        for table in ("calls", "packets", "call_events"):
            await sql.execute(f"alter table {table} add column faults integer default 1")
            await asyncio.sleep(0.1)
            await sql.execute(f"alter table {table} drop column faults")


async def hold_transaction(scene: Scene) -> None:
    """Keep a transaction open that has written: the feed must not go past what it holds back."""
    async with scene.sql() as sql, scene.fault(), sql.transaction():
        await sql.execute("select pg_current_xact_id()")
        await asyncio.sleep(_HELD)


async def fill_data_disk(scene: Scene) -> None:
    """Fill the disk that the tables lie on to the last byte, and make room again some seconds later."""
    await _fill_disk(scene)


async def fill_wal_disk(scene: Scene) -> None:
    """Fill the disk of the write-ahead log, for which PostgreSQL goes down, and make room again."""
    await _fill_disk(scene)


async def _fill_disk(scene: Scene) -> None:
    ballast = scene.disk / "ballast"
    async with scene.fault():
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with scene.sql() as sql:
                await sql.execute("select pg_switch_wal()")  # the next file of the log is to be made
        await asyncio.sleep(_FULL)
        ballast.unlink()
        await scene.until_database()


@asynccontextmanager
async def on_small_disk(place: Path, *, what: str) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL that has its "data" or its "wal" on a disk of its own."""
    home = place / "postgres"
    settings = _WAL if what == "wal" else {}
    async with EmbeddedPostgres(data_dir=home, settings=settings):
        pass
    (cluster,) = home.glob("pg[0-9]*")
    with _mounted(place / "disk", _DISK[what]) as disk:
        _move(cluster / ("base" if what == "data" else "pg_wal"), disk)
        async with EmbeddedPostgres(data_dir=home, settings=settings) as postgres:
            yield postgres


def _move(directory: Path, disk: Path) -> None:
    subprocess.run(["cp", "-a", directory, disk], check=True)
    shutil.rmtree(directory)
    directory.symlink_to(disk / directory.name)


@contextmanager
def _mounted(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def lacks_mount() -> str | None:
    """Return why no disk can be made here."""
    if os.geteuid() != 0:
        return "only root can mount a small disk"
    done = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False)
    return None if done.returncode == 0 else "a disk cannot be mounted here"


@asynccontextmanager
async def _small_data_disk(place: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with on_small_disk(place, what="data") as postgres:
        yield postgres


@asynccontextmanager
async def _small_wal_disk(place: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with on_small_disk(place, what="wal") as postgres:
        yield postgres


NEMESES: Final = (
    Nemesis(name="pg-fast", strike=restart_fast),
    Nemesis(name="pg-immediate", strike=restart_immediate),
    Nemesis(name="pg-kill", strike=kill_postmaster),
    Nemesis(name="pg-backend", strike=kill_backend),
    Nemesis(name="pg-freeze", strike=freeze_postgres),
    Nemesis(name="pg-terminate", strike=terminate_backends),
    Nemesis(name="pg-refuse", strike=refuse_logins),
    Nemesis(name="pg-connections", strike=take_connections),
    Nemesis(name="pg-table-lock", strike=lock_table),
    Nemesis(name="pg-row-lock", strike=lock_row, expected=Expected(progress=500)),
    Nemesis(name="pg-migration", strike=alter_table),
    Nemesis(name="pg-transaction", strike=hold_transaction, expected=Expected(progress=50)),
    Nemesis(name="disk-data", strike=fill_data_disk, postgres=_small_data_disk, lacks=lacks_mount),
    Nemesis(name="disk-wal", strike=fill_wal_disk, postgres=_small_wal_disk, lacks=lacks_mount),
)
