"""More connections than there may be."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from callactors.web.doorman import open_door

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


@asynccontextmanager
async def opened(limit: int) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    async with open_door(runner, listener, connections=limit, rate=1_000):
        yield listener.getsockname()[1]
    await runner.cleanup()


async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    return reader, writer


async def test_one_connection_too_many_is_told_so_and_finds_room_later() -> None:
    async with opened(1) as port:
        first, kept = await ask(port)
        assert (await first.readline()).startswith(b"HTTP/1.1 200")
        second, writer = await ask(port)
        head, _, body = (await second.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1\r\n" in head
        assert json.loads(body)["type"] == "/problems/overloaded"
        writer.close()
        kept.transport.abort()
        told = b""
        while not told.startswith(b"HTTP/1.1 200"):
            reader, writer = await ask(port)
            told = await reader.readline()
            writer.close()


async def test_one_too_many_that_says_nothing_is_let_go() -> None:
    async with opened(1) as port:
        first, kept = await ask(port)
        await first.readline()
        silent, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await silent.read() == b""
        writer.close()
        kept.close()
