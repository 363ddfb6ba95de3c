"""A wire to PostgreSQL that can be made slow: a database that takes longer the more it is given."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import parse_qs, urlsplit

_CHUNK: Final = 16 * 1024


class SlowWire:
    """Listens on a TCP port and passes on to the unix socket of *target*, a DSN.

    While `rate` is set, no more bytes a second reach PostgreSQL on all connections together.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._free_at = 0.0
        self._port = 0
        self.rate: float | None = None
        self.carried = 0
        """Bytes to PostgreSQL."""

    @property
    def dsn(self) -> str:
        """Where to connect."""
        return (
            f"postgresql://{self._target.username}@127.0.0.1:{self._port}{self._target.path}?sslmode=disable"
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Take connections; who holds them must have closed them at the end."""
        async with await asyncio.start_server(self._carry, "127.0.0.1", 0) as server:
            self._port = server.sockets[0].getsockname()[1]
            yield

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        socket = f"{parse_qs(self._target.query)['host'][0]}/.s.PGSQL.5432"
        with suppress(OSError):
            answers, server = await asyncio.open_unix_connection(socket)
            await asyncio.gather(self._send(reader, server), _pass_on(answers, writer))

    async def _send(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            self.carried += len(data)
            if self.rate is not None:
                now = asyncio.get_running_loop().time()
                self._free_at = max(self._free_at, now) + len(data) / self.rate
                await asyncio.sleep(self._free_at - now)
            writer.write(data)
            await writer.drain()
        writer.close()


async def _pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()
