"""Packets per second stored from NDJSON and WebSockets over asyncpg inserting the same rows by unnest."""

import asyncio
import json
import os
import statistics
import sys
from asyncio.subprocess import PIPE
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from callactors.store.embedded import EmbeddedPostgres
from tests.benchmarks.load import DATA
from tests.benchmarks.machine import Reading, one_core_set_apart, sync_time, versions
from tests.benchmarks.processes import Server, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.stream_load import Kind, StreamPlan, StreamResult

_CALLACTORS: Final = ("-m", "callactors", "serve", "--port", "0")
_CALLS: Final = 8
_SHORT, _LONG = 12_000, 50_000  # packets of a call in a round


@dataclass(slots=True)
class _Round:
    result: StreamResult
    busy: float = 0.0
    cpu_us: float = 0.0

    @property
    def rate(self) -> float:
        return self.result.packets / self.result.seconds


@dataclass(slots=True)
class _Arms:
    ours: list[_Round] = field(default_factory=list)
    insert: list[_Round] = field(default_factory=list)


async def stream_ndjson(options: Options) -> Report:
    """Measure NDJSON bodies, one call each."""
    return await _measure("stream-ndjson", "ndjson", options)


async def stream_websocket(options: Options) -> Report:
    """Measure WebSockets, one call each."""
    return await _measure("stream-websocket", "websocket", options)


async def _measure(name: str, kind: Kind, options: Options) -> Report:
    arms, packets = _Arms(), _LONG if options.is_long else _SHORT
    with one_core_set_apart() as core:
        sync = sync_time()
        async with (
            EmbeddedPostgres(data_dir=None) as postgres,
            serving(_CALLACTORS, core, {"DATABASE_URL": postgres.dsn}) as server,
        ):
            for number in range(-1, options.rounds):  # the first warms up
                shape: dict[str, Any] = {"calls": _CALLS, "packets": packets}
                ours = StreamPlan(kind=kind, port=server.port, prefix=f"{kind}{number}", **shape)
                insert = StreamPlan(kind="insert", dsn=postgres.dsn, prefix=f"insert{number}", **shape)
                rounds = await _run_ours(ours, server), _Round(await _run(insert, core))
                if number >= 0:
                    arms.ours.append(rounds[0])
                    arms.insert.append(rounds[1])
    return _report(name, arms, sync, packets)


async def _run_ours(plan: StreamPlan, server: Server) -> _Round:
    before = Reading.take(server.pid)
    result = await _run(plan, None)
    after = Reading.take(server.pid)
    cpu = after.cpu - before.cpu
    return _Round(result, busy=cpu / result.seconds, cpu_us=cpu / result.packets * 1e6)


async def _run(plan: StreamPlan, core: int | None) -> StreamResult:
    """Carry *plan* out in a process of its own, on *core* if it is the one that is measured."""
    command = (sys.executable, "-m", "tests.benchmarks.stream_load", json.dumps(asdict(plan)))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    told, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError("the load has failed")
    return StreamResult(**json.loads(told))


def _report(name: str, arms: _Arms, sync: float, packets: int) -> Report:
    ours, insert = ([round_.rate for round_ in arm] for arm in (arms.ours, arms.insert))
    ratio = statistics.median(ours) / statistics.median(insert)
    busy = statistics.median(round_.busy for round_ in arms.ours)
    cpu = statistics.median(round_.cpu_us for round_ in arms.ours)
    ratios = [mine / theirs for mine, theirs in zip(ours, insert, strict=True)]
    wanted = packets * _CALLS
    problems = [
        f"{round_.result.packets} of {wanted} packets were stored"
        for round_ in (*arms.ours, *arms.insert)
        if round_.result.packets != wanted
    ]
    lines = [
        f"{name}: {len(ours)} rounds of {packets} packets for each of {_CALLS} calls in each arm, in turn",
        f"packets per second (min-max): callactors {_range(ours)}, asyncpg insert {_range(insert)}",
        f"server CPU per packet {cpu:.1f} us, busy {busy:.2f}",
        f"ratio {ratio:.3f} (rounds {min(ratios):.3f}-{max(ratios):.3f})",
        f"a write and fdatasync takes {sync:.0f} us; {os.cpu_count()} cores",
    ]
    parts = {
        "rates": {"callactors": [round(r, 1) for r in ours], "insert": [round(r, 1) for r in insert]},
        "cpu_us_per_packet": round(cpu, 2),
        "busy": round(busy, 3),
        "ratio_of_rounds": [round(r, 3) for r in ratios],
        "sync_us": round(sync, 1),
        "options": {"calls": _CALLS, "packets": packets, "data_bytes": len(DATA)},
        "versions": versions(),
    }
    return Report(name=name, ratio=ratio, problems=problems, lines=lines, parts=parts)


def _range(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
