"""A server process under test: started, killed, terminated and started again on one database."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

Settings = Mapping[str, str | float]

QUICK: Final[Settings] = {
    "node": "acceptance",
    "unsafe_durability": 1,  # the tests' PostgreSQL runs without fsync
    "grace": 0.1,
    "flaky_latency_min": 0,
    "flaky_latency_max": 0.01,
    "flaky_failure_rate": 0,
    "retry_initial": 0.05,
}

_START_TIMEOUT: Final = 40.0
_EXIT_TIMEOUT: Final = 25.0
_ADDRESS: Final = re.compile(r"callactors listens on (https?://\S+:(\d+))\n")
_RECORD: Final = re.compile(r"^(?=\d{4}-\d\d-\d\d \d\d:|\{)", re.MULTILINE)
_NOT_HTTP: Final = re.compile(r" aiohttp\.server: .*^aiohttp\.http_exceptions\.", re.MULTILINE | re.DOTALL)
_FAULT: Final = re.compile(
    r"Traceback|[ \"]CRITICAL[ \"]|never retrieved|destroyed but it is pending|never awaited|Unclosed"
    r"|Exception in callback"
)


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    error: str


class Server:
    """One process at a time. Its log is kept over restarts in *directory*, and is checked at the end.

    Without *dsn* it has a PostgreSQL of its own. The port is chosen by the first start and then kept, so that
    clients find it again. *module* is what python runs, *extra* are variables of its environment.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        dsn: str | None = None,
        settings: Settings = QUICK,
        port: int = 0,
        module: str = "callactors",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.extra = dict(extra or {})
        self.log_file = directory / "server.log"
        self.url = ""
        self._directory = directory
        self._arguments = arguments
        self._dsn = dsn
        self._module = module
        self._settings = dict(settings)
        self._port = port
        self._printed = b""
        self._process: Process | None = None

    @property
    def dsn(self) -> str | None:
        return self._dsn

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def port(self) -> int:
        return self._port

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> str:
        """All that was said on stderr so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def printed(self) -> str:
        """What the last process is known to have printed; complete after its end."""
        return self._printed.decode()

    async def start(self, settings: Settings | None = None) -> None:
        """Start a process, with *settings* changed from now on, and return when it listens."""
        self._settings.update(settings or {})
        await self.spawn()
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_TIMEOUT):
            line = await self._process.stdout.readline()
        found = _ADDRESS.fullmatch(line.decode())
        if found is None:
            await self.kill()
            raise AssertionError(f"the server does not start: {line!r}\n{self.log}")
        self._printed = line
        self.url, self._port = found[1], int(found[2])

    async def wait_for_print(self, text: str) -> None:
        """Return when a line with *text* was printed."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_TIMEOUT):
            while text not in self.printed:
                line = await self._process.stdout.readline()
                assert line, f"{text!r} is not printed, but {self.printed!r}"
                self._printed += line

    async def spawn(self) -> None:
        """Start a process, and do not wait for it."""
        assert not self.is_running
        command = [sys.executable, "-m", self._module, "serve", "--port", str(self._port), *self._arguments]
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                cwd=self._directory,
                env={**environment(self._directory, self._dsn, self._settings), **self.extra},
            )

    async def kill(self) -> None:
        """Kill -9."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Ask it to stop, wait until it has, and return its exit code."""
        return await self._end(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send a signal and do not wait."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Return the exit code once the process has ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(_EXIT_TIMEOUT):
            out, _ = await self._process.communicate()
        self._printed += out
        assert self._process.returncode is not None
        return self._process.returncode

    async def restart(self, settings: Settings | None = None) -> None:
        """Kill -9, and start again."""
        await self.kill()
        await self.start(settings)

    def check_log(self) -> None:
        """Fail if the log has a traceback or another sign of a bug."""
        for record in find_faults(self.log):
            raise AssertionError(f"the server's log shows a fault:\n{record[:4_000]}")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            await self.kill()
            error.add_note(f"the end of the server's log:\n{self.log[-3_000:]}")
            return
        code = await self.terminate() if self.is_running else 0
        self.check_log()
        assert code == 0, f"exit code {code}:\n{self.log[-3_000:]}"

    async def _end(self, number: int) -> int:
        if self.is_running:
            self.signal(number)
        try:
            return await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()
            raise


def find_faults(log: str) -> list[str]:
    """Return the records of *log* with a traceback or another sign of a bug.

    What aiohttp says of bytes that are no HTTP is its own.
    """
    records = _RECORD.split(log)
    return [record for record in records if _FAULT.search(record) and not _NOT_HTTP.search(record)]


async def run(
    directory: Path, *arguments: str, dsn: str | None = None, settings: Settings | None = None
) -> Finished:
    """Run `callactors` with *arguments* to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "callactors", *arguments),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        cwd=directory,
        env=environment(directory, dsn, settings or {}),
    )
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), error.decode())


def environment(directory: Path, dsn: str | None, settings: Settings) -> dict[str, str]:
    """Return this process's environment with nothing that sets up a server but *dsn* and *settings*."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CALLACTORS_", "PG", "DATABASE_URL")) or name == "CALLACTORS_PG_BIN"
    }
    chosen = {"log_format": "human", **settings}
    named = {f"CALLACTORS_{name.upper()}": str(value) for name, value in chosen.items()}
    named |= {"XDG_DATA_HOME": str(directory)} | ({} if dsn is None else {"DATABASE_URL": dsn})
    return {**kept, **named}
