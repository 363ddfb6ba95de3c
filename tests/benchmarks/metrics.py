"""What counting costs a packet, and what a scrape of /metrics costs the event loop."""

import asyncio
import time
from collections.abc import Callable
from itertools import repeat
from time import monotonic
from typing import Any, Final, cast

from callactors.actors import Envelope
from callactors.counts import CallCounts
from callactors.facts import Accepted, Change
from callactors.messages import Accept, Message
from callactors.packets import Packet
from callactors.tickets import CallTicket
from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.load import DATA
from tests.benchmarks.machine import Reading, one_core_set_apart, versions
from tests.benchmarks.processes import Server, callactors, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.sender import deal, packet, send

_LIMIT: Final = 1.0  # microseconds a packet
_PACKETS: Final = 100_000  # that are counted in a go
_GOES: Final = 20
_SCRAPES: Final = 100
_CALLS: Final = 1_000
_SCRAPE: Final = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def metrics(options: Options) -> Report:
    """Count packets as a call's actor does, the fastest go of many, and scrape a server that has calls."""
    counting = count_packets()
    with one_core_set_apart() as core:
        async with (
            worn_postgres() as postgres,
            serving(callactors(), core, {"DATABASE_URL": postgres.dsn}) as server,
        ):
            scrape = await _scrape(server)
    parts: dict[str, Any] = {
        "counting_us": round(counting, 3),
        "limit_us": _LIMIT,
        "scrape_ms": round(scrape, 2),
        "calls": _CALLS,
        "versions": versions(),
    }
    lines = [
        f"metrics: counting costs a packet {counting:.2f} us (at most {_LIMIT:g})",
        f"a scrape takes {scrape:.1f} ms of the server's CPU, with {_CALLS:,} calls in memory",
    ]
    return Report(
        name="metrics",
        ratio=counting / _LIMIT,
        wanted=1.0,
        is_limit=True,
        problems=[],
        lines=lines,
        parts=parts,
    )


def count_packets() -> float:
    """Return how many microseconds a packet takes for what is done only to count it."""
    counts = CallCounts()
    accepted = Accepted("", 1, False, False, None, 1, ())
    envelope: Envelope[Message] = Envelope(Accept(Packet(sequence=1, data=DATA, timestamp=1.0)))
    ticket = CallTicket(cast("Any", None), cast("Any", None), Change(), envelope, accepted)

    def count() -> None:
        for _ in repeat(None, _PACKETS):
            envelope.made_at = monotonic()
            counts.acks.add(monotonic() - ticket.asked_at, accepted.packets)

    def do_nothing() -> None:
        for _ in repeat(None, _PACKETS):
            pass

    return (_fastest(count) - _fastest(do_nothing)) / _PACKETS * 1e6


def _fastest(do: Callable[[], None]) -> float:
    times = []
    for _ in range(_GOES):
        begin = time.process_time()
        do()
        times.append(time.process_time() - begin)
    return min(times)


async def _scrape(server: Server) -> float:
    """Return how many milliseconds of the server's CPU a scrape takes."""
    await send(server.port, deal([packet(f"call-{number}") for number in range(_CALLS)]))
    before = await asyncio.to_thread(Reading.take, server.pid)
    answers = await send(server.port, [repeat(_SCRAPE, _SCRAPES)])
    after = await asyncio.to_thread(Reading.take, server.pid)
    if answers != {200: _SCRAPES}:
        raise RuntimeError(f"the server answered {answers}")
    return (after.cpu - before.cpu) / _SCRAPES * 1e3
