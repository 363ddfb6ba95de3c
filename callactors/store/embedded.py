"""A private PostgreSQL for whoever has not set DATABASE_URL: it starts and stops with this program."""

import asyncio
import logging
import os
import shutil
import signal
import tempfile
from asyncio import Task
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import asyncpg

from callactors.errors import EmbeddedFailed
from callactors.store.account import Account, choose_account
from callactors.store.binaries import find_binaries, version
from callactors.store.data_dir import DataDir, remove_socket_dir, sync_dir

__all__ = ["EmbeddedPostgres", "find_binaries", "find_running"]

log = logging.getLogger(__name__)

_POLL_INTERVAL = 0.02
_RESTART_INTERVAL = 0.5
_LONGEST_SOCKET_DIR = 80  # a socket's path has at most 103 bytes (macOS), 20 are for its name
# fast shutdown; immediate shutdown, after which the next start recovers; the kernel
_ENDINGS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, None))


class EmbeddedPostgres:
    """A PostgreSQL server as a child of this process, reached over a unix socket only.

    *data_dir* keeps its data in `pgNN`, NN being the major version; None is a temporary one, gone at `stop`.
    *settings* are postgresql.conf names and values; none are set by default, so what is committed is durable.
    *takeover_timeout* is how many seconds to wait for a server on the same *data_dir* that is shutting down.

    Where setpriv exists (Linux), postgres shuts down if this process is killed; the kernel ties that to the
    thread that called `start`, so it should live as long as the server. Close pools before `stop`.
    """

    def __init__(
        self,
        *,
        data_dir: Path | None,
        settings: Mapping[str, str] | None = None,
        takeover_timeout: float = 10.0,
    ) -> None:
        self._wanted_dir = data_dir
        self._settings = dict(settings or {})
        self._takeover_timeout = takeover_timeout
        self._data: DataDir | None = None
        self._socket_dir: Path | None = None
        self._process: Process | None = None
        self._keeper: Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's pid while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def log_file(self) -> Path | None:
        """What postgres has said since it was last started; None before the first start."""
        return self._data.log_file if self._data else None

    @property
    def dsn(self) -> str:
        """Where to connect, from `start` to `stop`."""
        if self._socket_dir is None:
            raise RuntimeError("the embedded PostgreSQL is not started")
        return _dsn(str(self._socket_dir))

    async def start(self) -> str:
        """Start the server and return its DSN; the database `callactors` exists then.

        Raises PostgresNotFound, DataDirVersion, DataDirBusy or EmbeddedFailed. Whatever goes wrong,
        cancellation included, no process is left.
        """
        if self._process is not None:
            raise RuntimeError("the embedded PostgreSQL is already started")
        try:
            command, data = await self._start()
        except OSError as exc:
            await self.stop()
            raise EmbeddedFailed(str(exc)) from exc
        except BaseException:
            await self.stop()
            raise
        self._keeper = asyncio.create_task(self._keep(command, data), name="embedded PostgreSQL")
        return self.dsn

    async def stop(self) -> None:
        """Shut down, disconnecting the clients, and remove what is temporary; may be called at any time."""
        try:
            if self._keeper is not None:
                self._keeper.cancel()
                await asyncio.gather(self._keeper, return_exceptions=True)
            if self._process is not None:
                await _end(self._process)
        finally:
            self._process = self._keeper = None
            if self._socket_dir is not None:
                remove_socket_dir(self._socket_dir)
                self._socket_dir = None
            if self._data is not None:
                self._data.release()
                if self._wanted_dir is None:
                    shutil.rmtree(self._data.path, ignore_errors=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self) -> tuple[list[str | Path], DataDir]:
        binaries = find_binaries()
        major, full = version(binaries)
        data = self._data = DataDir.make(self._wanted_dir)
        await data.hold(major, takeover_timeout=self._takeover_timeout)
        initialised = data.has(major)
        data.begin_log()
        cluster = data.cluster(major)
        account = choose_account(cluster)
        binaries = account.readable(binaries, data.path)
        if initialised:
            account.give(cluster)
        else:
            await self._initialise(data, cluster, account, binaries)
        self._socket_dir = _make_socket_dir(account)
        command = [*account.prefix, binaries / "postgres", *self._options(cluster)]
        await self._run(command, data)
        log.info("embedded PostgreSQL %s is ready, pid %s, data in %s", full, self.pid, cluster)
        return command, data

    async def _run(self, command: list[str | Path], data: DataDir) -> None:
        process = await self._spawn(data, command)
        data.sign(process.pid, str(self._socket_dir))
        await self._until_ready(process, data)

    async def _keep(self, command: list[str | Path], data: DataDir) -> None:
        """Start the server again whenever it ends by itself; its clients find it under the same DSN."""
        while self._process is not None:
            code = await self._process.wait()
            log.error("the embedded PostgreSQL ended with %s and is started again", code)
            try:
                await self._run(command, data)
            except (OSError, EmbeddedFailed, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.error("it did not start: %s", str(error).splitlines()[-1])
                await asyncio.sleep(_RESTART_INTERVAL)
            else:
                log.info("the embedded PostgreSQL is back, pid %s", self.pid)

    async def _initialise(self, data: DataDir, cluster: Path, account: Account, binaries: Path) -> None:
        """Make *cluster* under another name and rename it: it is there whole, on the disk, or not at all."""
        unfinished = cluster.with_name(cluster.name + ".new")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        account.give(unfinished)
        options = ["-U", "callactors", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
        if self._wanted_dir is None:
            options.append("--no-sync")
        process = await self._spawn(data, [*account.prefix, binaries / "initdb", "-D", unfinished, *options])
        if await process.wait() != 0:
            raise EmbeddedFailed(data.log_tail())
        unfinished.rename(cluster)
        sync_dir(cluster.parent)

    def _options(self, cluster: Path) -> list[str | Path]:
        chosen = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        return [*chosen, "-D", cluster, "-h", "", "-k", str(self._socket_dir), "-p", "5432"]

    async def _spawn(self, data: DataDir, command: list[str | Path]) -> Process:
        """Start *command* as the process that `stop` ends."""
        with data.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                cwd=data.path,
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
                pass_fds=data.lock_fds,
                start_new_session=True,  # Ctrl-C in a terminal is for us: postgres must outlive our draining
            )
        return self._process

    async def _until_ready(self, process: Process, data: DataDir) -> None:
        """Recovery after a crash may take long, so there is no timeout here; the caller can set one."""
        while process.returncode is None:
            try:
                connection = await asyncpg.connect(self.dsn, timeout=5)
            except asyncpg.InvalidCatalogNameError:
                await self._create_database()
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
                await asyncio.sleep(_POLL_INTERVAL)
            else:
                await connection.close()
                return
        raise EmbeddedFailed(data.log_tail())

    async def _create_database(self) -> None:
        connection = await asyncpg.connect(self.dsn, database="postgres")
        try:
            await connection.execute("create database callactors")
        finally:
            await connection.close()


def find_running(data_dir: Path) -> str | None:
    """Return the DSN of the server that runs on *data_dir*, or None if none does."""
    socket_dir = DataDir(data_dir.absolute()).find_socket_dir()
    return _dsn(socket_dir) if socket_dir else None


def _dsn(socket_dir: str) -> str:
    host = quote(socket_dir)
    return f"postgresql://callactors@/callactors?host={host}&port=5432"  # PGPORT would fill in a port


def _make_socket_dir(account: Account) -> Path:
    path = Path(tempfile.mkdtemp(prefix="callactors-"))
    if len(os.fsencode(path)) > _LONGEST_SOCKET_DIR:
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix="callactors-", dir="/tmp"))
    account.give(path)
    return path


async def _end(process: Process) -> None:
    try:
        for ending, patience in _ENDINGS:
            with suppress(ProcessLookupError):
                process.send_signal(ending)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await process.wait()
                    return
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        raise
