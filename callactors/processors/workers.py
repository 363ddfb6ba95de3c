"""A few processes that work for one attempt at a time, so that the server's loop never does."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self

from callactors.processors.speech_pipe import SIZE, SpeechMessage, pack_message

_CODE: Final = "callactors.processors.transcriber"


class WorkerDied(Exception):
    """The process has ended before it answered."""

    def __init__(self, how: str) -> None:
        super().__init__(f"the process that recognises speech ended {how}")


class NoWorker(Exception):
    """No process takes one more attempt now; the text says why."""


class Worker:
    """One process."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101  # both are pipes, see start
        assert process.stdout is not None  # noqa: S101
        self._process = process
        self._input, self._output = process.stdin, process.stdout

    @classmethod
    async def start(cls) -> Self:
        """Start a process that finds the modules that this one finds; Ctrl-C does not reach it."""
        path = os.pathsep.join(filter(None, sys.path))
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _CODE),
                stdin=PIPE,
                stdout=PIPE,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,
            )
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def is_alive(self) -> bool:
        """Whether it can be expected to answer."""
        return not self.has_ended and not self._output.at_eof()

    async def send(self, message: SpeechMessage) -> None:
        """Send *message*; return when there is room for the next.

        Raises:
            WorkerDied: nobody takes it any more.
        """
        if self._input.is_closing():
            raise WorkerDied(await self._tell_end())
        self._input.write(pack_message(message))
        await asyncio.sleep(0)  # drain alone lets nobody else run while there is room
        try:
            await self._input.drain()
        except ConnectionError:
            raise WorkerDied(await self._tell_end()) from None

    async def receive(self) -> Any:
        """Return what the process answers, which is JSON.

        Raises:
            WorkerDied: it never will.
        """
        try:
            (size,) = SIZE.unpack(await self._output.readexactly(SIZE.size))
            return json.loads(await self._output.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise WorkerDied(await self._tell_end()) from None

    def kill(self) -> None:
        """End the process, whatever it does."""
        if not self.has_ended:
            self._process.kill()
        self._input.close()

    async def wait(self) -> None:
        """Return when the process has ended."""
        await self._process.wait()

    async def _tell_end(self) -> str:
        status = await self._process.wait()
        return f"by signal {-status}" if status < 0 else f"with exit status {status}"


class Workers:
    """At most *limit* processes, started when they are needed; at most *waiting* attempts wait for one.

    A process whose attempt breaks off is killed, and with it what it was doing; another takes its place.
    """

    def __init__(self, limit: int, *, waiting: int) -> None:
        self._places = asyncio.Semaphore(limit)
        self._max_waiting = waiting
        self._waiting = 0
        self._idle: list[Worker] = []
        self._running: set[Worker] = set()
        self._is_closed = False

    @property
    def pids(self) -> Sequence[int]:
        """The process ids of those that have not been seen to end."""
        return [worker.pid for worker in self._running if not worker.has_ended]

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Worker]:
        """Lend a process that does nothing else meanwhile.

        Raises:
            NoWorker: too many are waiting for one, or this is closed.
        """
        if self._places.locked() and self._waiting >= self._max_waiting:
            raise NoWorker(f"{self._waiting} calls wait for a process that recognises speech")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            worker = await self._take()
            try:
                yield worker
            except BaseException:
                worker.kill()
                raise
            self._idle.append(worker)
        finally:
            self._places.release()

    async def close(self) -> None:
        """End all processes; whoever has one finds that it died, and nobody gets another."""
        self._is_closed = True
        self._idle.clear()
        for worker in self._running:
            worker.kill()
        for worker in list(self._running):
            await worker.wait()
        self._running.clear()

    async def _take(self) -> Worker:
        if self._is_closed:
            raise NoWorker("speech is not recognised any more: the server stops")
        self._running = {worker for worker in self._running if not worker.has_ended}
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            worker.kill()
        worker = await Worker.start()
        self._running.add(worker)
        return worker
