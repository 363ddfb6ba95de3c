"""More connections than there may be."""

import asyncio
import gc
import json
import socket
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from aiohttp import web

from callactors.web.doorman import _tidy_up, open_door

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


@contextmanager
def no_automatic_collections() -> Iterator[list[int]]:
    """Yield the generations that are looked at because somebody asks for it."""
    looked_at: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            looked_at.append(info["generation"])

    gc.collect()
    gc.disable()
    gc.callbacks.append(look)
    try:
        yield looked_at
    finally:
        gc.callbacks.remove(look)
        gc.enable()


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


async def test_what_connections_leave_does_not_wait_for_many_objects() -> None:
    with no_automatic_collections() as looked_at:
        async with opened(8) as port:
            for _ in range(200):
                reader, writer = await ask(port)
                await reader.readline()
                writer.close()
            left = sum(isinstance(thing, TransportSocket) for thing in gc.get_objects())
        assert looked_at == [0] * 6
    assert left < 100


def test_older_objects_are_looked_at_more_rarely() -> None:
    with no_automatic_collections() as looked_at:
        for entered in range(1, 2 * 16_384 + 1):
            _tidy_up(entered)
    assert [looked_at.count(generation) for generation in range(3)] == [896, 126, 2]
