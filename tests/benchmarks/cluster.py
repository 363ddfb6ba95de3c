"""What it costs that a packet comes to a server which does not have its call."""

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.load import DATA, percentile
from tests.benchmarks.machine import Reading, one_core_set_apart, versions
from tests.benchmarks.processes import Server, callactors, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.sender import exchange, post
from tests.cluster_scenes import Nats, nats_server

_CALLS: Final = 32
_PAUSE: Final = 0.1  # seconds between the packets of a call, where times are measured
_LIMIT: Final = 0.002  # seconds that an answer from elsewhere may take longer, at the median


class _Costs(NamedTuple):
    """Packets, and the seconds of CPU that the owner, the server that was asked, and NATS used for them."""

    packets: int
    owner: float
    asked: float
    nats: float

    def tell(self) -> dict[str, float]:
        """In microseconds a packet."""
        names = ("owner", "asked", "nats")
        return {name: round(getattr(self, name) / self.packets * 1e6, 1) for name in names}


@dataclass
class _Call:
    """A call that the first of two servers has, with a connection to each."""

    call_id: str
    wires: Sequence[tuple[StreamReader, StreamWriter]]
    sent: int = 0
    times: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    async def send(self, number: int) -> None:
        """Send the next packet to one of the servers, and keep how long its 202 took."""
        self.sent += 1
        body = {"sequence": self.sent, "data": DATA, "timestamp": 1700000000.25}
        began = time.perf_counter()
        status, _ = await exchange(*self.wires[number], post(f"/v1/call/stream/{self.call_id}", body))
        self.times[number].append(time.perf_counter() - began)
        if status != 202:
            raise RuntimeError(f"a packet was answered with {status}")

    async def alternate(self, begin: float, until: float) -> None:
        """Send to one server and to the other, with a pause after each."""
        await asyncio.sleep(begin - time.perf_counter())
        while time.perf_counter() < until:
            for number in (0, 1):
                await self.send(number)
                await asyncio.sleep(_PAUSE)

    async def press(self, number: int, until: float) -> None:
        """Send to one server as fast as it answers."""
        while time.perf_counter() < until:
            await self.send(number)


async def cluster(options: Options) -> Report:
    """Send the packets of each call to its owner and to another server in turn, and then flat out to one."""
    with one_core_set_apart() as core:
        async with (
            worn_postgres() as postgres,
            nats_server() as nats,
            _servers(postgres.dsn, nats.url, core) as servers,
            _calls(servers) as calls,
        ):
            local, routed = await _measure_times(calls, options.seconds * options.rounds)
            near = await _measure_costs(calls, 0, servers, nats, options.seconds)
            far = await _measure_costs(calls, 1, servers, nats, options.seconds)
    later = percentile(routed, 0.5) - percentile(local, 0.5)
    times = {
        name: {f"p{share * 100:g}": round(percentile(values, share) * 1e3, 2) for share in (0.5, 0.99)}
        for name, values in (("local", local), ("routed", routed))
    }
    costs = {"local": near.tell(), "routed": far.tell()}
    return Report(
        name="cluster",
        ratio=later / _LIMIT,
        wanted=1.0,
        is_limit=True,
        problems=[],
        lines=[
            f"cluster: {_CALLS} calls, a packet each {_PAUSE:g} s; an answer from elsewhere comes"
            f" {later * 1e3:.2f} ms later at the median (at most {_LIMIT * 1e3:g})",
            *(f"  {name:<8} p50 {at['p50']:.2f} ms, p99 {at['p99']:.2f} ms" for name, at in times.items()),
            "microseconds of CPU a packet, flat out:",
            *(f"  {name:<8} {', '.join(f'{k} {v:g}' for k, v in c.items())}" for name, c in costs.items()),
        ],
        parts={"milliseconds": times, "cpu_us": costs, "calls": _CALLS, "versions": versions()},
    )


@asynccontextmanager
async def _servers(dsn: str, nats: str, core: int) -> AsyncIterator[tuple[Server, Server]]:
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(
                serving(callactors("--nats", nats, "--node", name), core, {"DATABASE_URL": dsn})
            )
            for name in ("owner", "asked")
        ]
        yield first, second


@asynccontextmanager
async def _calls(servers: Sequence[Server]) -> AsyncIterator[list[_Call]]:
    """Calls that the first of *servers* has."""
    calls = []
    for number in range(_CALLS):
        wires = [await asyncio.open_connection("127.0.0.1", server.port) for server in servers]
        calls.append(_Call(f"call-{number}", wires))
    try:
        for call in calls:
            await call.send(0)
        yield calls
    finally:
        for call in calls:
            for _, writer in call.wires:
                writer.close()


async def _measure_times(calls: Sequence[_Call], seconds: float) -> tuple[list[float], list[float]]:
    begin = time.perf_counter()
    spread = [begin + _PAUSE * number / len(calls) for number in range(len(calls))]
    await asyncio.gather(
        *(call.alternate(at, begin + seconds) for call, at in zip(calls, spread, strict=True))
    )
    local, routed = (sorted(one for call in calls for one in call.times[number]) for number in (0, 1))
    return local, routed


async def _measure_costs(
    calls: Sequence[_Call], number: int, servers: Sequence[Server], nats: Nats, seconds: float
) -> _Costs:
    pids = [*(server.pid for server in servers), nats.pid]
    before, sent = [Reading.take(pid).cpu for pid in pids], sum(call.sent for call in calls)
    await asyncio.gather(*(call.press(number, time.perf_counter() + seconds) for call in calls))
    used = [Reading.take(pid).cpu - earlier for pid, earlier in zip(pids, before, strict=True)]
    return _Costs(sum(call.sent for call in calls) - sent, *used)
