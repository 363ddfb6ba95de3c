"""Packets per second stored from NDJSON and WebSockets over asyncpg inserting the same rows by unnest.

With `--uvloop` it is the server on uvloop over the server on asyncio's own loop.
"""

import os
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.benchmarks.databases import add_database, worn_postgres
from tests.benchmarks.load import DATA
from tests.benchmarks.machine import Reading, one_core_set_apart, sync_time, versions
from tests.benchmarks.processes import Server, callactors, run_client, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.stream_load import Kind, StreamPlan, StreamResult

_BUSY: Final = 0.95
_CALLS: Final = 8
_SHORT, _LONG = 20_000, 50_000  # packets of a call in a round


@dataclass(slots=True)
class _Arm:
    """A server, or without one the client that inserts: that process is on the core which is measured."""

    name: str
    kind: Kind
    dsn: str
    core: int
    server: Server | None = None
    results: list[StreamResult] = field(default_factory=list)
    readings: list[tuple[Reading, Reading]] = field(default_factory=list)

    async def run(self, number: int, packets: int) -> None:
        plan = StreamPlan(
            kind=self.kind,
            port=self.server.port if self.server else 0,
            dsn=self.dsn,
            prefix=f"{self.kind}{number}",
            calls=_CALLS,
            packets=packets,
        )
        before = Reading.take(self.server.pid) if self.server else None
        core = None if self.server else self.core
        self.results.append(
            StreamResult(**await run_client("tests.benchmarks.stream_load", asdict(plan), core))
        )
        if self.server and before:
            self.readings.append((before, Reading.take(self.server.pid)))

    def forget(self) -> None:
        """Let all rounds so far have been for warming up."""
        self.results.clear()
        self.readings.clear()

    @property
    def rates(self) -> list[float]:
        return [result.packets / result.seconds for result in self.results]

    @property
    def summary(self) -> dict[str, Any]:
        """Medians: shares of the wall time, and CPU in us, of the process on the core that is measured."""
        if not self.readings:
            busy = statistics.median(result.busy for result in self.results)
            return {"busy": round(busy, 3)}
        rounds = list(zip(self.readings, self.results, strict=True))
        cpu = [(after.cpu - before.cpu, result) for (before, after), result in rounds]
        waiting = [(after.waiting - before.waiting) / result.seconds for (before, after), result in rounds]
        return {
            "busy": round(statistics.median(used / result.seconds for used, result in cpu), 3),
            "waiting": round(statistics.median(waiting), 3),
            "cpu_us_per_packet": round(statistics.median(used / r.packets * 1e6 for used, r in cpu), 2),
            "client_busy": round(statistics.median(result.busy for result in self.results), 3),
        }


async def stream_ndjson(options: Options) -> Report:
    """Measure NDJSON bodies, one call each."""
    return await _measure("stream-ndjson", "ndjson", options, wanted=0.7)


async def stream_websocket(options: Options) -> Report:
    """Measure WebSockets, one call each."""
    return await _measure("stream-websocket", "websocket", options, wanted=0.6)


async def _measure(name: str, kind: Kind, options: Options, *, wanted: float) -> Report:
    packets = _LONG if options.is_long else _SHORT
    with one_core_set_apart() as core:
        sync = sync_time()
        async with (
            worn_postgres() as postgres,
            _arms(kind, options, postgres.dsn, core) as arms,
        ):
            for number in range(-1, options.rounds):
                for arm in arms:
                    await arm.run(number, packets)
                    if number < 0:
                        arm.forget()
    if options.on_uvloop:
        return _report(f"{name}-uvloop", *arms, sync, packets, wanted=1.0)
    return _report(name, *arms, sync, packets, wanted=wanted)


@asynccontextmanager
async def _arms(kind: Kind, options: Options, dsn: str, core: int) -> AsyncIterator[tuple[_Arm, _Arm]]:
    flags = ("--uvloop",) if options.on_uvloop else ()
    other_dsn = await add_database(dsn, "other") if options.on_uvloop else dsn
    command = callactors(*flags, profile=options.profile)
    async with serving(command, core, {"DATABASE_URL": dsn}) as server:
        if not options.on_uvloop:
            yield _Arm("callactors", kind, dsn, core, server), _Arm("insert", "insert", dsn, core)
            return
        async with serving(callactors(), core, {"DATABASE_URL": other_dsn}) as other:
            yield _Arm("uvloop", kind, dsn, core, server), _Arm("asyncio", kind, other_dsn, core, other)


def _report(name: str, ours: _Arm, other: _Arm, sync: float, packets: int, *, wanted: float) -> Report:
    ratio = statistics.median(ours.rates) / statistics.median(other.rates)
    ratios = [mine / theirs for mine, theirs in zip(ours.rates, other.rates, strict=True)]
    summaries = {arm.name: arm.summary for arm in (ours, other)}
    lines = [
        f"{name}: {len(ratios)} rounds of {packets} packets for each of {_CALLS} calls in each arm, in turn",
        *(f"{arm.name:<12}{_tell(arm)}" for arm in (ours, other)),
        f"ratio {ratio:.3f} (rounds {min(ratios):.3f}-{max(ratios):.3f})",
        f"a write and fdatasync takes {sync:.0f} us; {os.cpu_count()} cores",
    ]
    parts = {
        "rates": {arm.name: [round(rate, 1) for rate in arm.rates] for arm in (ours, other)},
        "arms": summaries,
        "cpu_us_per_packet": summaries[ours.name]["cpu_us_per_packet"],
        "busy": summaries[ours.name]["busy"],
        "ratio_of_rounds": [round(r, 3) for r in ratios],
        "sync_us": round(sync, 1),
        "options": {"calls": _CALLS, "packets": packets, "data_bytes": len(DATA)},
        "versions": versions(),
    }
    problems = [*_problems(ours, packets), *_problems(other, packets)]
    return Report(name=name, ratio=ratio, wanted=wanted, problems=problems, lines=lines, parts=parts)


def _problems(arm: _Arm, packets: int) -> list[str]:
    """The client that inserts is bound by its one session of PostgreSQL: how busy it is is only told."""
    wanted, summary = packets * _CALLS, arm.summary
    problems = [
        f"{arm.name}: {result.packets} of {wanted} packets were stored"
        for result in arm.results
        if result.packets != wanted
    ]
    if arm.server and summary["busy"] < _BUSY:
        problems.append(
            f"{arm.name}: the server was busy for {summary['busy']} of the time, not {_BUSY};"
            f" for {summary['waiting']} it was ready, but others had its core"
        )
    return problems


def _tell(arm: _Arm) -> str:
    summary = arm.summary
    told = f"{_range(arm.rates)} packets a second (min-max)"
    if arm.server is None:
        return f"{told}; its client was busy for {summary['busy']:.2f}, else it waited for PostgreSQL"
    return (
        f"{told}; server CPU {summary['cpu_us_per_packet']:.1f} us a packet, busy {summary['busy']:.2f},"
        f" others on its core {summary['waiting']:.2f}, client busy {summary['client_busy']:.2f}"
    )


def _range(rates: Sequence[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
