"""The connection to NATS of a server that has very many calls, by what a NATS server reads of it."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from callactors.cluster import NatsOptions
from callactors.cluster.link import Link, Subjects
from tests.storage import until_true

CALLS: Final = [f"call-{number}" for number in range(3_000)]
SUBJECTS: Final = Subjects("root", "boot")
INFO: Final = b'INFO {"server_id":"x","version":"2.9.0","max_payload":1048576,"headers":true}\r\n'


class Reading:
    """A NATS server that delivers nothing, and keeps the commands that it has read."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(INFO)
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.commands.append(line.strip())
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
        writer.close()

    def count(self, command: bytes) -> int:
        return sum(one.startswith(command) for one in self.commands)


@asynccontextmanager
async def linked(on_change: Callable[[Link], None] = lambda _: None) -> AsyncIterator[tuple[Link, Reading]]:
    """A link that has CALLS, on its way to a server that reads."""
    reading = Reading()
    async with await asyncio.start_server(reading.serve, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        link = Link(
            NatsOptions(servers=[url]),
            SUBJECTS,
            on_request=lambda _: None,
            on_answer=lambda _, __: None,
            on_poke=lambda: None,
            on_change=lambda: on_change(link),
        )
        for call_id in CALLS:
            link.hold(call_id)
        running = asyncio.create_task(link.run())
        try:
            yield link, reading
        finally:
            running.cancel()
            await asyncio.wait([running])


@contextmanager
def turns() -> Iterator[list[int]]:
    """How many turns others of the loop have had, as the one item of a list."""
    counted = [0]

    async def turn() -> None:
        while True:
            counted[0] += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    try:
        yield counted
    finally:
        turning.cancel()


async def test_thousands_of_calls_are_subscribed_and_let_go_between_the_turns_of_others() -> None:
    async with linked() as (link, reading):
        with turns() as counted:
            await until_true(lambda: reading.count(b"SUB root.call.") == len(CALLS))
            assert counted[0] > len(CALLS) / 100
        with turns() as counted:
            for call_id in CALLS:
                link.let_go(call_id)
            await until_true(lambda: reading.count(b"UNSUB ") == len(CALLS))
            assert counted[0] > len(CALLS) / 100


async def test_what_is_sent_does_not_wait_for_the_calls_of_a_new_connection() -> None:
    async with linked(on_change=lambda link: link.send("first", b"")) as (_, reading):
        await until_true(lambda: reading.count(b"SUB root.call.") == len(CALLS))
        published, subscribed = (
            reading.count(b"PUB first"),
            reading.commands.index(b"SUB root.call.call-0  3"),
        )
        assert published == 1
        assert reading.commands.index(b"PUB first  0") < subscribed
