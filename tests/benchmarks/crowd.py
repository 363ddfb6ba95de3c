"""A crowd of supervisors in a process of its own."""

import asyncio
import json
import resource
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.benchmarks.watchers import Seen

_POLL_INTERVAL: Final = 0.05


class Crowd:
    """Supervisors that watch one server; each command returns what they have seen."""

    def __init__(self, commands: StreamWriter, answers: StreamReader) -> None:
        self._commands = commands
        self._answers = answers

    async def open(self, count: int) -> Seen:
        """Open *count* more sockets."""
        return await self._do(f"open {count}")

    async def begin(self, *, is_timed: bool = False) -> Seen:
        """Count anew, and take the age of each event if it *is_timed*."""
        return await self._do("time" if is_timed else "count")

    async def see(self, frames: int, *, patience: float = 20.0) -> Seen:
        """Return when so many frames have come, or after *patience* seconds with fewer."""
        until = asyncio.get_running_loop().time() + patience
        while (seen := await self._do("report")).frames < frames:
            if asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(_POLL_INTERVAL)
        return seen

    async def _do(self, command: str) -> Seen:
        self._commands.write(f"{command}\n".encode())
        line = await self._answers.readline()
        if not line:
            raise RuntimeError("the supervisors have failed")
        return Seen(**json.loads(line))


@asynccontextmanager
async def watching(port: int) -> AsyncIterator[Crowd]:
    """Yield a crowd, empty as yet, that watches the server at *port*."""
    command = (sys.executable, "-m", "tests.benchmarks.watchers", str(port))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("there are pipes")
        yield Crowd(process.stdin, process.stdout)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def allow_files(wanted: int) -> None:
    """Let this process and those it starts open *wanted* files.

    Raises:
        SystemExit: the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"this benchmark opens {wanted} files: raise the hard limit of {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
