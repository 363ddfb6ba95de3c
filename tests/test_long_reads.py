"""Reads of many rows: few at a time, and none for who has hung up meanwhile."""

import asyncio
import socket
import struct
from contextlib import AsyncExitStack
from typing import Any, Final, TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pytest_aiohttp.plugin import AiohttpClient, AiohttpServer

from callactors.web.keys import SYSTEM
from callactors.web.sockets import has_gone
from tests.scenes import make_app, packet

Client: TypeAlias = Any

_RESET: Final = struct.pack("ii", 1, 0)  # then close() sends RST: SO_LINGER in socket(7)
_GET: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_when_two_read_many_rows_others_wait_but_not_who_asks_for_one_call(
    dsn: str, aiohttp_client: AiohttpClient
) -> None:
    app = make_app(dsn)
    client = await aiohttp_client(app)
    await app[SYSTEM].accept("c", packet(1))
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(app[SYSTEM].reading_long())
        paths = ("/v1/calls", "/v1/call/c/events", "/v1/call/c/packets")
        waiting = [asyncio.create_task(client.get(path)) for path in paths]
        assert (await client.get("/v1/call/c")).status == 200
        assert not any(one.done() for one in waiting)
    assert [(await one).status for one in waiting] == [200, 200, 200]


class Told:
    """A server that tells, when it may, whether who asked has gone."""

    def __init__(self) -> None:
        self.is_asked, self.may_tell = asyncio.Event(), asyncio.Event()
        self.found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def handle(self, request: web.Request) -> web.Response:
        self.is_asked.set()
        await self.may_tell.wait()
        self.found.set_result(has_gone(request))
        return web.Response()


@pytest.fixture
async def told() -> Told:
    return Told()


@pytest.fixture
async def server(told: Told, aiohttp_server: AiohttpServer) -> TestServer:
    app = web.Application()
    app.router.add_get("/", told.handle)
    return await aiohttp_server(app)


async def test_who_waits_has_not_gone_nor_who_only_ends_writing(told: Told, server: TestServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(_GET)
    await told.is_asked.wait()
    told.may_tell.set()
    assert await told.found is False
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_who_has_reset_the_connection_has_gone(told: Told, server: TestServer) -> None:
    asking = socket.create_connection(("127.0.0.1", server.port or 0))
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    asking.send(_GET)
    await told.is_asked.wait()
    asking.close()  # the loop has had no turn to see it
    told.may_tell.set()
    assert await told.found is True
