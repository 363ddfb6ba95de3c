"""However many clients call at once, a turn of the loop is short and has room for all else."""

import asyncio
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from selectors import EVENT_READ, EVENT_WRITE

import pytest

from callactors.turns import TURN, ShortTurns

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")

CLIENTS = TURN + TURN // 2


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["127.0.0.1", "::1"])
def door(request: pytest.FixtureRequest, stack: ExitStack) -> socket.socket:
    """A listening socket."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        return stack.enter_context(socket.create_server((request.param, 0), family=family))
    except OSError:
        pytest.skip("there is no IPv6")


def call(stack: ExitStack, door: socket.socket) -> socket.socket:
    """Return the server's end of a connection that has something to read."""
    client = stack.enter_context(socket.create_connection(door.getsockname()[:2]))
    accepted = stack.enter_context(door.accept()[0])
    client.send(b"x")
    return accepted


def pair(stack: ExitStack) -> socket.socket:
    """Return an end of a connection of the server's own that has something to read."""
    here, there = socket.socketpair()
    stack.enter_context(here)
    stack.enter_context(there).send(b"x")
    return here


def told(selector: ShortTurns) -> set[int]:
    return {key.fd for key, events in selector.select(0) if events == EVENT_READ}


def test_what_is_not_a_clients_is_told_although_more_clients_than_a_turn_has_came_before(
    stack: ExitStack, door: socket.socket
) -> None:
    selector = stack.enter_context(ShortTurns(door.getsockname()[1]))
    clients = [call(stack, door) for _ in range(CLIENTS)]
    own = [pair(stack) for _ in range(3)]
    for sock in [*clients, *own]:
        selector.register(sock.fileno(), EVENT_READ)
    first = told(selector)
    assert {sock.fileno() for sock in own} < first
    assert len(first) == TURN + len(own)
    assert first | told(selector) == {sock.fileno() for sock in [*clients, *own]}  # the clients take turns


def test_what_is_forgotten_is_not_told(stack: ExitStack) -> None:
    selector = stack.enter_context(ShortTurns(1))
    gone, closed, kept = (pair(stack) for _ in range(3))
    for sock in (gone, closed, kept):
        selector.register(sock, EVENT_READ, data="before")
    with pytest.raises(KeyError):
        selector.register(kept, EVENT_READ)
    selector.unregister(gone)
    number = closed.fileno()
    closed.close()
    selector.unregister(number)
    selector.modify(kept, EVENT_READ | EVENT_WRITE, data="after")
    assert [(key.data, events) for key, events in selector.select(0)] == [("after", EVENT_READ | EVENT_WRITE)]
    assert selector.get_key(kept).fileobj is kept
    assert set(selector.get_map()) == {kept.fileno()}
    for ask in (selector.get_key, selector.unregister):
        with pytest.raises(KeyError):
            ask(gone.fileno() if gone.fileno() >= 0 else number)


def test_a_peer_that_hangs_up_is_told_to_who_reads_and_to_who_writes(stack: ExitStack) -> None:
    selector = stack.enter_context(ShortTurns(1))
    here, there = socket.socketpair()
    stack.enter_context(here)
    selector.register(here, EVENT_READ | EVENT_WRITE)
    there.close()
    assert [events for _, events in selector.select()] == [EVENT_READ | EVENT_WRITE]


def test_wait_ends_no_sooner_than_asked(stack: ExitStack) -> None:
    selector = stack.enter_context(ShortTurns(1))
    loop = asyncio.SelectorEventLoop()
    begin = loop.time()
    assert selector.select(0.0011) == []
    assert loop.time() - begin >= 0.0011
    assert selector.select(-1) == []
    loop.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())  # a megabyte: more than the kernel takes at once
    writer.close()
    await writer.wait_closed()


async def ask(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 1_000_000)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return len(answer)


def test_a_loop_runs_on_it() -> None:
    async def scene() -> list[int]:
        async with await asyncio.start_server(echo, sock=door):
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            answers = await asyncio.gather(*[ask(port) for _ in range(20)])
            said, _ = await process.communicate(b"said")
            assert said == b"said"
            assert await asyncio.to_thread(lambda: 1) == 1
            return answers

    door = socket.create_server(("127.0.0.1", 0))
    port = door.getsockname()[1]
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(ShortTurns(port))) as runner:
        assert runner.run(scene()) == [1_000_000] * 20
