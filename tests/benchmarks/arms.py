"""Two servers under the same load: callactors, and a bare handler that stores nothing. One busy core each.

With `--uvloop` it is callactors on uvloop, and on asyncio's own loop.
"""

import asyncio
import http.client
import json
import os
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import asyncpg

from tests.benchmarks.databases import add_database, worn_postgres
from tests.benchmarks.load import DATA, Plan, Result
from tests.benchmarks.machine import one_core_set_apart, sync_time, versions
from tests.benchmarks.processes import Server, callactors, run_load, serving
from tests.benchmarks.report import Options, Report

_BUSY: Final = 0.95
_KEPT_UP: Final = 0.98
_BARE: Final = ("-m", "tests.benchmarks.bare")
ROOM: Final = {  # else new calls make others leave, and connections come slowly: other measurements
    "CALLACTORS_MAX_RESIDENT": "1000000",
    "CALLACTORS_MAX_NEW_CONNECTIONS": "1000000",
}

# A packet is received at the time of its transaction.
_STORED: Final = """
select split_part(call_id, '-', 1) as phase, count(*) as packets, count(distinct received_at) as commits,
    count(distinct call_no) as calls
from packets join calls using (call_no) group by phase
"""


class _Phase(NamedTuple):
    """What the rounds at full or at half load have stored."""

    packets: int
    commits: int
    calls: int


@dataclass(slots=True)
class _Arm:
    """One of the two servers, and what it did. Without a *dsn* it stores nothing."""

    name: str
    server: Server
    are_calls_new: bool
    dsn: str | None = None
    full: list[Result] = field(default_factory=list)
    half: list[Result] = field(default_factory=list)
    found: dict[str, _Phase] = field(default_factory=dict)

    async def run_full(self, options: Options) -> None:
        self.full.append(await run_load(self._plan(f"full-{len(self.full)}", options.seconds)))

    async def run_half(self, options: Options) -> None:
        rate = self.median(_rate) / 2
        self.half.append(await run_load(self._plan("half", options.seconds, rate)))

    def median(self, of: Callable[[Result], float]) -> float:
        return statistics.median(map(of, self.full))

    @property
    def results(self) -> Sequence[Result]:
        return [*self.full, *self.half]

    @property
    def accepted(self) -> int:
        return 1 + sum(result.accepted for result in self.results)  # one from the comparison

    @property
    def stored(self) -> int:
        return sum(phase.packets for phase in self.found.values())

    @property
    def calls(self) -> int:
        return sum(phase.calls for phase in self.found.values())

    def _plan(self, prefix: str, seconds: float, rate: float | None = None) -> Plan:
        return Plan(
            port=self.server.port,
            pid=self.server.pid,
            prefix=prefix,
            seconds=seconds,
            rate=rate,
            are_calls_new=self.are_calls_new,
            # A new call makes two round trips: twice the connections keep the server as busy.
            connections=256 if self.are_calls_new else 128,
            goes_first=True,
        )


async def compare(name: str, options: Options, *, wanted: float, are_calls_new: bool = False) -> Report:
    """Measure both arms in turn, then each at half of its own rate, and count what is stored."""
    with one_core_set_apart() as core:
        sync = sync_time()
        async with worn_postgres() as postgres:
            async with _arms(options, postgres.dsn, core, are_calls_new) as arms:
                await _measure(options, *arms)
            for arm in arms:
                arm.found = await _look(arm.dsn) if arm.dsn else {}
            postgres_version = await _show_version(postgres.dsn)
    ours, other = arms
    problems = [*_problems(ours), *_problems(other)]
    parts = {
        "ratio_by_cpu": round(other.median(_cpu) / ours.median(_cpu), 4),
        "ratio_of_rounds": [round(a.rate / b.rate, 4) for a, b in zip(ours.full, other.full, strict=True)],
        "arms": {arm.name: _summary(arm) for arm in arms},
        "accepted": ours.accepted,
        "stored": ours.stored,
        "calls": ours.calls,
        "packets_per_commit": {
            name: round(phase.packets / phase.commits, 1) for name, phase in ours.found.items()
        },
        "sync_us": round(sync, 1),
        "options": {"rounds": options.rounds, "seconds": options.seconds, "data_bytes": len(DATA)},
        "versions": {**versions(), "postgres": postgres_version},
    }
    name = f"{name}-uvloop" if options.on_uvloop else name
    ratio = ours.median(_rate) / other.median(_rate)
    return Report(
        name=name,
        ratio=ratio,
        wanted=1.0 if options.on_uvloop else wanted,
        problems=problems,
        lines=_table(name, ours, other, ratio, parts),
        parts=parts,
    )


@asynccontextmanager
async def _arms(
    options: Options, dsn: str, core: int, are_calls_new: bool
) -> AsyncIterator[tuple[_Arm, _Arm]]:
    flags = ("--uvloop",) if options.on_uvloop else ()
    other_dsn = await add_database(dsn, "other") if options.on_uvloop else None
    command = _BARE if other_dsn is None else callactors()
    async with (
        serving(callactors(*flags, profile=options.profile), core, {"DATABASE_URL": dsn, **ROOM}) as server,
        serving(command, core, {"DATABASE_URL": other_dsn or "", **ROOM}) as other,
    ):
        names = ("uvloop", "asyncio") if options.on_uvloop else ("callactors", "bare")
        yield _Arm(names[0], server, are_calls_new, dsn), _Arm(names[1], other, are_calls_new, other_dsn)


async def _measure(options: Options, *arms: _Arm) -> None:
    await asyncio.to_thread(_compare, *(arm.server for arm in arms))
    for _ in range(options.rounds):
        for arm in arms:
            await arm.run_full(options)
    for arm in arms:
        await arm.run_half(options)


def _compare(*servers: Server) -> None:
    """Make sure that both arms give the same answer to the same packet."""
    ours, theirs = map(_ask, servers)
    if ours != theirs:
        raise RuntimeError(f"the arms differ:\n{ours}\n{theirs}")


def _ask(server: Server) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    body = json.dumps({"sequence": 1, "data": DATA, "timestamp": 1.5})
    connection.request("POST", "/v1/call/stream/probe", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    told = json.loads(response.read())
    connection.close()
    return response.status, {name: value for name, value in response.getheaders() if name != "Date"}, told


async def _look(dsn: str) -> dict[str, _Phase]:
    """Return what each phase has stored."""
    connection = await asyncpg.connect(dsn)
    try:
        return {phase: _Phase(*counts) for phase, *counts in await connection.fetch(_STORED)}
    finally:
        await connection.close()


async def _show_version(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        version: str = await connection.fetchval("show server_version")
        return version
    finally:
        await connection.close()


def _problems(arm: _Arm) -> list[str]:
    problems = []
    if (busy := arm.median(_busy)) < _BUSY:
        waiting = arm.median(_waiting)
        problems.append(
            f"{arm.name}: the server was busy for {busy:.3f} of the time, not {_BUSY};"
            f" for {waiting:.3f} it was ready, but others had its core"
        )
    others = sum((Counter(result.others) for result in arm.results), Counter[str]())
    if others:
        problems.append(f"{arm.name}: answers other than 202: {dict(others)}")
    if arm.dsn and arm.stored != arm.accepted:
        problems.append(f"{arm.name}: {arm.accepted} packets were accepted, but {arm.stored} are stored")
    if arm.dsn and arm.are_calls_new and arm.calls != arm.stored:
        problems.append(f"{arm.name}: {arm.stored} packets made {arm.calls} calls")
    wanted = arm.median(_rate) / 2
    if arm.half[0].rate < wanted * _KEPT_UP:
        problems.append(f"{arm.name}: {arm.half[0].rate:.0f} of {wanted:.0f} packets a second at half load")
    return problems


def _summary(arm: _Arm) -> dict[str, Any]:
    rates = [round(result.rate, 1) for result in arm.full]
    return {
        "rate": round(arm.median(_rate), 1),
        "rate_min": min(rates),
        "rate_max": max(rates),
        "cpu_us_per_202": round(arm.median(_cpu), 2),
        "busy": round(arm.median(_busy), 4),
        "waiting": round(arm.median(_waiting), 4),
        "p50_ms": round(arm.median(lambda result: result.p50), 3),
        "p99_ms": round(arm.median(lambda result: result.p99), 3),
        "half_rate": round(arm.half[0].rate, 1),
        "half_p50_ms": round(arm.half[0].p50, 3),
        "half_p99_ms": round(arm.half[0].p99, 3),
        "client_busy": round(arm.median(lambda result: result.client_busy), 4),
        "rounds": [
            {name: _rounded(value) for name, value in asdict(result).items()} for result in arm.results
        ],
    }


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _table(name: str, ours: _Arm, other: _Arm, ratio: float, parts: dict[str, Any]) -> list[str]:
    columns = [parts["arms"][arm.name] for arm in (ours, other)]

    def line(title: str, form: str) -> str:
        return f"{title:<34}" + "".join(f"{form.format(**column):>28}" for column in columns)

    options, rounds, commits = parts["options"], parts["ratio_of_rounds"], parts["packets_per_commit"]
    return [
        f"{name}: {options['rounds']} rounds of {options['seconds']:g} s in each arm, in turn",
        f"{'':<34}{ours.name:>28}{other.name:>28}",
        line("202s per second (min-max)", "{rate:,.0f} ({rate_min:,.0f}-{rate_max:,.0f})"),
        line("server CPU per 202, us", "{cpu_us_per_202:.1f}"),
        line("server busy, others on its core", "{busy:.3f}, {waiting:.3f}"),
        line("p50, p99 at full load, ms", "{p50_ms:.2f}, {p99_ms:.2f}"),
        line("202s per second at half load", "{half_rate:,.0f}"),
        line("p50, p99 at half load, ms", "{half_p50_ms:.2f}, {half_p99_ms:.2f}"),
        line("client busy", "{client_busy:.3f}"),
        f"ratio {ratio:.3f} (rounds {min(rounds):.3f}-{max(rounds):.3f}),"
        f" by CPU per 202 {parts['ratio_by_cpu']:.3f}",
        f"{parts['accepted']:,} packets accepted, {parts['stored']:,} stored in {parts['calls']:,} calls,"
        f" {commits['full']:g} a commit at full and {commits['half']:g} at half load",
        f"a write and fdatasync takes {parts['sync_us']:.0f} us; {os.cpu_count()} cores",
        ", ".join(f"{name} {version}" for name, version in parts["versions"].items()),
    ]


def _rate(result: Result) -> float:
    return result.rate


def _cpu(result: Result) -> float:
    return result.cpu_per_202


def _busy(result: Result) -> float:
    return result.busy


def _waiting(result: Result) -> float:
    return result.waiting
