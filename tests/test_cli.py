"""The command's own parts, in process."""

import argparse
import asyncio
import socket
from collections.abc import Iterator

import pytest
from aiohttp import web

from callactors import cli
from callactors.web.doorman import open_door

CLIENTS = 50


async def answer(_request: web.Request) -> web.Response:
    return web.Response(text="ok")


def call(port: int) -> socket.socket:
    """Send a request without waiting for anything."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.setblocking(False)
    return client


async def read_to_end(client: socket.socket) -> bytes:
    """What came until the server closed or reset the connection."""
    loop, told = asyncio.get_running_loop(), b""
    with client:
        try:
            while part := await loop.sock_recv(client, 4096):
                told += part
        except ConnectionResetError:
            pass
    return told


@pytest.mark.parametrize("turns", range(10))
async def test_a_stop_waits_for_nobody_who_has_just_come(turns: int) -> None:
    """At whatever turn of the loop it comes; handlers here would have longer than the test."""
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=1_000)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    async with open_door(runner, listener, connections=1_000, rate=1_000):
        clients = [call(listener.getsockname()[1]) for _ in range(CLIENTS)]
        for _ in range(turns):
            await asyncio.sleep(0)
    await runner.cleanup()
    for client in clients:
        told = await read_to_end(client)
        assert told.startswith(b"HTTP/1.1 200 ")


def find_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the commands that are below *parser*, and those below them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from find_commands(command)


@pytest.mark.parametrize("command", list(find_commands(cli._parser())), ids=lambda command: command.prog)
def test_every_command_tells_what_it_does_and_how_it_ends(command: argparse.ArgumentParser) -> None:
    told = " ".join(command.format_help().split())
    assert command.description
    assert "xit code" in told
    for action in command._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
