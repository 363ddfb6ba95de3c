"""The door: how many connections there may be, how fast they come in, and what one too many is told."""

import asyncio
import errno
import gc
import logging
import socket
import ssl
from asyncio import BaseProtocol, BaseTransport, Protocol, Task, TimerHandle, WriteTransport
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, cast

from aiohttp import web

from callactors.web.buckets import Bucket

log = logging.getLogger(__name__)

_AT_ONCE: Final = 2  # connections that are let in in one turn of the loop
_LOOKED_AT: Final = 16  # and with those that have gone
_LAST: Final = 100  # that are let in as the door shuts
# After so many connections, which generation of objects is looked at.
_TIDY_INTERVALS: Final = ((16_384, 2), (256, 1), (32, 0))
_DOORSTEP: Final = 10  # turns of the loop from a connection's accept to its first request
_HANDSHAKE_TIMEOUT: Final = 10.0
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PATIENCE: Final = 1.0
_BODY: Final = (
    b'{"type":"/problems/overloaded","title":"The server is full","status":503,'
    b'"detail":"the server is full (too many connections); send it again"}'
)
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


@asynccontextmanager
async def open_door(
    runner: web.AppRunner,
    listener: socket.socket,
    *,
    connections: int,
    rate: float,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Let connections come to *runner*: up to so many at a time, and *rate* a second.

    At the end nobody comes in any more, but whoever was at the door is let in: aiohttp drops what a
    connection sends that is closed before its first request, and waits for that in vain.
    """
    door = _Door(runner, listener, connections=connections, rate=rate, context=context)
    door.open()
    try:
        yield
    finally:
        door.shut()
        for _ in range(_DOORSTEP):
            await asyncio.sleep(0)
        await door.close()


class _Door:
    """Accepts, as asyncio's server does, but no faster than it should: connections are not all there is."""

    def __init__(
        self,
        runner: web.AppRunner,
        listener: socket.socket,
        *,
        connections: int,
        rate: float,
        context: ssl.SSLContext | None,
    ) -> None:
        if runner.server is None:
            raise RuntimeError("set the runner up first")
        listener.setblocking(False)
        self._server = runner.server
        self._listener = listener
        self._connections = connections
        self._bucket = Bucket(rate, burst=_AT_ONCE)
        self._pace = _AT_ONCE / rate
        self._handshake = {} if context is None else {"ssl_handshake_timeout": _HANDSHAKE_TIMEOUT}
        self._context = context
        self._entering: set[Task[None]] = set()
        self._entered = 0
        self._pause: TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def open(self) -> None:
        """Let connections in from now on.

        A reader and no `sock_accept`: that loses a connection, and raises, if it comes as it is cancelled.
        """
        self._loop.add_reader(self._listener, self._take)

    def shut(self) -> None:
        """Let in who is there already, and nobody after that."""
        self._loop.remove_reader(self._listener)
        for _ in range(_LAST):
            if (connection := self._accept()) is None:
                break
            self._let_in(connection)
        if self._pause is not None:
            self._pause.cancel()
        self._listener.close()

    async def close(self) -> None:
        """Wait for no handshake any more."""
        for task in self._entering:
            task.cancel()
        await asyncio.gather(*self._entering, return_exceptions=True)

    def _take(self) -> None:
        for _ in range(_LOOKED_AT):
            if (connection := self._accept()) is None:
                break
            if _is_gone(connection):
                connection.close()
                continue
            self._let_in(connection)
            if not self._bucket.take(monotonic()):
                self._open_in(self._pace)
                break

    def _accept(self) -> socket.socket | None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                log.error("a connection cannot be taken: %s", error.strerror)
                self._open_in(_PATIENCE)
            return None
        connection.setblocking(False)
        return connection

    def _open_in(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        if self._bucket.take(monotonic()):
            self.open()
        else:
            self._open_in(self._pace)

    def _let_in(self, connection: socket.socket) -> None:
        task = asyncio.create_task(self._enter(connection))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)
        self._entered += 1
        _tidy_up(self._entered)

    async def _enter(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make, accepted, ssl=self._context, **self._handshake
            )
        except OSError as error:  # an ssl.SSLError is one
            log.debug("a connection has not come about: %s", error)

    def _make(self) -> BaseProtocol:
        return self._server() if len(self._server.connections) < self._connections else _Full()


def _tidy_up(entered: int) -> None:
    """Let the collector look for what connections leave, before it is so much that all halts for long.

    Each leaves objects that hold each other, if only asyncio's transport, which holds itself. Little else
    here does, so that connections tell better than objects when it is time.
    """
    for interval, generation in _TIDY_INTERVALS:
        if entered % interval == 0:
            gc.collect(generation)
            break


def _is_gone(connection: socket.socket) -> bool:
    """Whether the client has hung up already: that costs less to find out than a connection does."""
    try:
        is_reset = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # also behind what it has sent
        return bool(is_reset) or not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


class _Full(Protocol):
    """Answers 503 to whatever comes first."""

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = cast("WriteTransport", transport)
        self._timer: TimerHandle = asyncio.get_running_loop().call_later(_PATIENCE, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_FULL)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
