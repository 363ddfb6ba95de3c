"""A wire to PostgreSQL or NATS that fails in chosen ways."""

import asyncio
from asyncio import Protocol, Server, Task, Transport
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from functools import partial
from typing import cast
from urllib.parse import parse_qs, urlsplit


class Wire(Enum):
    """What the wire does with what it carries."""

    PASS = auto()
    DEAF = auto()  # what the server says is dropped: a commit is made, and its reply is lost
    BLACK_HOLE = auto()  # nothing gets through in either direction, and nobody is told


class Proxy:
    """Listens on a TCP port and passes on to *target*, which may be changed: a DSN with a unix socket, or a
    URL with a TCP port.

    A connection that has lost bytes is of no use any more: `cut` it before the wire passes again.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.wire = Wire.PASS
        self.delay: Callable[[], float] | None = None
        """Returns the seconds by which the next bytes come later, behind those before them."""
        self.dropped = asyncio.Event()
        """Set when something was dropped since it was last cleared."""
        self.port = 0
        self.ends: set[_End] = set()
        self._server: Server | None = None

    @property
    def dsn(self) -> str:
        """Where to connect: the target's user and database, through this proxy."""
        url = urlsplit(self.target)
        return f"postgresql://{url.username}@127.0.0.1:{self.port}{url.path}?sslmode=disable"

    @property
    def socket(self) -> str:
        """The path of the target's unix socket."""
        return f"{parse_qs(urlsplit(self.target).query)['host'][0]}/.s.PGSQL.5432"

    async def dial(self, factory: Callable[[], Protocol]) -> None:
        """Connect to the target.

        Raises:
            OSError: nobody listens there.
        """
        loop, url = asyncio.get_running_loop(), urlsplit(self.target)
        if url.hostname and url.port:
            await loop.create_connection(factory, url.hostname, url.port)
        else:
            await loop.create_unix_connection(factory, self.socket)

    async def listen(self) -> None:
        """Take connections, on the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Cut all connections and refuse new ones, as if nobody listened."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Abort all connections."""
        for end in list(self.ends):
            end.abort()


class _End(Protocol):
    """One end of a connection: what it hears, its peer says, unless the wire drops it."""

    def __init__(self, proxy: Proxy, *dropped_by: Wire) -> None:
        self.peer: _End | None = None
        self._proxy = proxy
        self._dropped_by = dropped_by
        self._transport: Transport | None = None
        self._late: deque[tuple[float, Callable[[], None]]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("Transport", transport)
        self._proxy.ends.add(self)

    def data_received(self, data: bytes) -> None:
        if self._proxy.wire in self._dropped_by:
            self._proxy.dropped.set()
        elif self.peer is not None:
            self.peer.say(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.ends.discard(self)
        if self.peer is not None:
            self.peer.close()

    def say(self, data: bytes) -> None:
        if self._transport is not None:
            self._do(partial(self._transport.write, data))

    def close(self) -> None:
        if self._transport is not None:
            self._do(self._transport.close)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _do(self, act: Callable[[], None]) -> None:
        """Call *act* now, or late and behind what is late already."""
        delay = self._proxy.delay
        if delay is None and not self._late:
            act()
            return
        loop = asyncio.get_running_loop()
        due = max(loop.time() + (delay() if delay else 0.0), self._late[-1][0] if self._late else 0.0)
        self._late.append((due, act))
        if len(self._late) == 1:
            loop.call_at(due, self._catch_up)

    def _catch_up(self) -> None:
        loop = asyncio.get_running_loop()
        while self._late and self._late[0][0] <= loop.time():
            self._late.popleft()[1]()
        if self._late:
            loop.call_at(self._late[0][0], self._catch_up)


class _Client(_End):
    """The end at the client; it dials the server."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy, Wire.BLACK_HOLE)
        self._dialling: Task[None] | None = None
        self._early = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._dialling = asyncio.create_task(self._dial())

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._early += data
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._dialling is not None:
            self._dialling.cancel()

    async def _dial(self) -> None:
        server = _End(self._proxy, Wire.DEAF, Wire.BLACK_HOLE)
        try:
            await self._proxy.dial(lambda: server)
        except OSError:
            self.abort()
            return
        server.peer, self.peer = self, server
        super().data_received(bytes(self._early))


@asynccontextmanager
async def proxy_to(dsn: str) -> AsyncIterator[Proxy]:
    """A proxy that passes."""
    proxy = Proxy(dsn)
    await proxy.listen()
    try:
        yield proxy
    finally:
        proxy.refuse()
        while proxy.ends:  # noqa: ASYNC110  # the loop tells each end on its next turn
            await asyncio.sleep(0)
