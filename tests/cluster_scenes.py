"""What the tests of several servers share: a NATS server of their own, and systems that it joins."""

import asyncio
import os
import shutil
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession

from callactors.cluster import NatsOptions, NatsRouter
from callactors.routing import RouteCounts
from callactors.system import CallSystem
from tests.scenes import running
from tests.storage import until_true

PROGRAM: Final = shutil.which("nats-server") or ""

needs_nats = pytest.mark.skipif(not PROGRAM, reason="there is no nats-server here: apt install nats-server")


class Nats:
    """A NATS server that can be killed and started again, on the port it had.

    It is started in *directory*, with *variables* in its environment.
    """

    def __init__(self, directory: Path | None = None, variables: Mapping[str, str] | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.port: int = one.getsockname()[1]
            self._monitor: int = other.getsockname()[1]
        self._directory = directory
        self._environment = {**os.environ, **(variables or {})}
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, *flags: str) -> None:
        """Start, and return when it listens."""
        where = ("-a", "127.0.0.1", "-p", str(self.port), "-m", str(self._monitor))
        self._process = await asyncio.create_subprocess_exec(
            *(PROGRAM, *where, *flags),
            cwd=self._directory,
            env=self._environment,
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                assert self._process.returncode is None, "nats-server does not start"
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return

    async def until_held(self, call_id: str) -> None:
        """Return when it knows that a server has the call; the ack does not wait for that."""
        url = f"http://127.0.0.1:{self._monitor}/subsz?subs=1"
        async with ClientSession() as session:
            while True:
                async with session.get(url) as response:
                    told = await response.json()
                if any(one["subject"].endswith(f".call.{call_id}") for one in told["subscriptions_list"]):
                    return
                await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """Kill it, without a farewell to its clients."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def freeze(self) -> None:
        """Let it stand still, its connections open, and return when all of its threads do."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, self._process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def nats_server(*flags: str) -> AsyncIterator[Nats]:
    """A NATS server."""
    server = Nats()
    await server.start(*flags)
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def joined(dsn: str, url: str, name: str, **options: Any) -> AsyncIterator[CallSystem]:
    """A system on *dsn* that has joined the others on the NATS server at *url*."""
    async with joined_by(NatsOptions(servers=[url]), dsn, name, **options) as system:
        yield system


@asynccontextmanager
async def joined_by(nats: NatsOptions, dsn: str, name: str, **options: Any) -> AsyncIterator[CallSystem]:
    """The same, on NATS as *nats* says."""
    async with running(dsn, router=NatsRouter(nats), node=name, **options) as system:
        await until_up(system)
        yield system


@asynccontextmanager
async def cluster(dsn: str, size: int = 2, **options: Any) -> AsyncIterator[tuple[CallSystem, ...]]:
    """As many systems on *dsn*, joined by a NATS server of their own."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(nats_server())
        joining = [joined(dsn, server.url, f"node-{number}", **options) for number in range(size)]
        yield tuple([await stack.enter_async_context(one) for one in joining])


async def until_up(system: CallSystem, is_up: bool = True) -> None:
    """Return when *system* reaches the others, or does not any more."""
    router = system.router
    assert router is not None
    await until_true(lambda: router.is_up is is_up)


def counts(system: CallSystem) -> RouteCounts:
    """What *system*'s router did."""
    assert system.router is not None
    return system.router.counts
