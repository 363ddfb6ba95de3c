"""Goodput under too much load: too many connections, and a slow database that gets more than it can take."""

import resource
import statistics
from collections import Counter
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from callactors.store.journal import JournalLimits
from tests.benchmarks.arms import ROOM
from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.load import Plan, Result
from tests.benchmarks.machine import one_core_set_apart, peak_memory, reset_peak_memory, versions
from tests.benchmarks.processes import Server, callactors, run_load, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.slow_wire import SlowWire

_LIMIT: Final = 0.8
_CONNECTIONS: Final = (32, 64, 128)
_MORE: Final = 3
"""So many times the connections of the peak, and so many times slower is the slow database."""
_BEYOND: Final = 2  # the open loop sends so many times what the slow database takes
_WAIT: Final = 2.0  # seconds that an accepted packet may take before the open loop has no connection left
_SETTLED: Final = 4.0  # seconds until as much waits as the journal lets wait
_SLOW_SECONDS: Final = 3.0  # a flush may take a third of a second then
_OTHER_FILES: Final = 200
_AT_LEAST: Final = 1.5  # what of that it must have sent: a refusal costs the server time, too
_MAX_WAITING: Final = 0.05
_REFUSALS: Final = {"429", "503"}
_MIB: Final = 1024 * 1024


class _Bench:
    """A server behind a wire, and what was measured of it."""

    def __init__(self, server: Server, wire: SlowWire, seconds: float) -> None:
        self._server = server
        self._wire = wire
        self._seconds = seconds
        self.runs: dict[str, list[Result]] = {}
        self.memory: dict[str, int] = {}

    async def run(self, name: str, connections: int, **more: Any) -> None:
        """Load the server, with *more* of a plan, and keep what came of it under *name*."""
        results = self.runs.setdefault(name, [])
        common = {"calls": connections, "seconds": self._seconds, **more}
        prefix = f"{name}-{len(results)}"
        plan = Plan(
            port=self._server.port, pid=self._server.pid, prefix=prefix, connections=connections, **common
        )
        reset_peak_memory(self._server.pid)
        carried = self._wire.carried
        results.append(await run_load(plan))
        self.memory[name] = peak_memory(self._server.pid)
        self.bytes_per_packet = (self._wire.carried - carried) / results[-1].accepted

    def slow_down(self, rate: float) -> None:
        """Let the database take *rate* packets a second, as long as those of the last run."""
        self._wire.rate = rate * self.bytes_per_packet

    def rate(self, name: str) -> float:
        return self.median(name, "rate")

    def median(self, name: str, what: str) -> float:
        values: list[float] = [getattr(result, what) for result in self.runs[name]]
        return statistics.median(values)


async def overload(options: Options) -> Report:
    """Give the server three times the connections of its peak; then a database with a third of its speed."""
    _allow_many_files()
    with one_core_set_apart() as core:
        async with worn_postgres() as postgres:
            wire = SlowWire(postgres.dsn)
            async with (
                wire.listening(),
                serving(callactors(), core, {"DATABASE_URL": wire.dsn, **ROOM}) as server,
            ):
                bench = _Bench(server, wire, options.seconds)
                connections = await _crowd(bench, options.rounds if options.is_long else 2)
                await _slow_down(bench, connections)
                wire.rate = None
    ratios = bench.rate("crowded") / bench.rate("peak"), bench.rate("beyond") / bench.rate("slow")
    cap = bench.memory["easy"] + JournalLimits().size
    parts = {
        "limit": _LIMIT,
        "ratio_by_connections": round(ratios[0], 4),
        "ratio_by_database": round(ratios[1], 4),
        "slow_over_many": round(bench.rate("slow") / bench.rate("many"), 4),
        "beyond_over_many": round(bench.rate("beyond") / bench.rate("many"), 4),
        "connections": {"peak": connections, "crowded": _MORE * connections, "open": _waiting(bench)},
        "memory": bench.memory,
        "memory_cap": cap,
        "is_memory_within_cap": bench.memory["beyond"] <= cap,
        "runs": {name: [_rounded(result) for result in results] for name, results in bench.runs.items()},
        "versions": versions(),
    }
    return Report(
        name="overload",
        ratio=min(ratios),
        wanted=_LIMIT,
        problems=_problems(bench),
        lines=_table(bench, parts),
        parts=parts,
    )


async def _crowd(bench: _Bench, rounds: int) -> int:
    """Measure the peak and three times its connections in turn; return the connections of the peak."""
    for number in _CONNECTIONS:
        await bench.run(f"with{number}", number, seconds=1.0)
    connections = max(_CONNECTIONS, key=lambda number: bench.rate(f"with{number}"))
    for _ in range(rounds):
        await bench.run("crowded", _MORE * connections)
        await bench.run("peak", connections)
    return connections


async def _slow_down(bench: _Bench, connections: int) -> None:
    """Measure what the slow database takes, and what is left of it when twice as much is sent.

    The calls are the same in number, because a call's row is written every so many seconds. For the same
    reason a packet means more bytes when there are fewer a second: what the database takes then is measured.
    """
    many = _waiting(bench)
    common = {"calls": many, "seconds": _SLOW_SECONDS, "warm_up": _SETTLED}
    await bench.run("many", connections, **common)
    bench.slow_down(bench.rate("many") / _MORE)
    await bench.run("slow", _MORE * connections, **common)
    await bench.run("easy", many, rate=bench.rate("slow") / 2, **common)
    await bench.run("beyond", many, rate=bench.rate("slow") * _BEYOND, **common)


def _waiting(bench: _Bench) -> int:
    """Return how many connections the open loop needs, so that it never waits for one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(int(bench.rate("peak") / _MORE * _WAIT), most - _OTHER_FILES)


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # what is started from here inherits it


def _problems(bench: _Bench) -> list[str]:
    problems = []
    for name, results in bench.runs.items():
        others = sum((Counter(result.others) for result in results), Counter[str]())
        if set(others) - (_REFUSALS if name == "beyond" else set()):
            problems.append(f"{name}: answers other than 202: {dict(others)}")
    waiting = {name: bench.median(name, "waiting") for name in ("peak", "crowded", "many")}
    problems += [
        f"{name}: for {share:.3f} of the time others had the server's core"
        for name, share in waiting.items()
        if share > _MAX_WAITING
    ]
    sent, slow = _sent(bench, "beyond"), bench.rate("slow")
    if sent < slow * _AT_LEAST:
        problems.append(f"beyond: {sent:.0f} packets a second were sent, the slow database takes {slow:.0f}")
    return problems


def _sent(bench: _Bench, name: str) -> float:
    return bench.rate(name) + bench.median(name, "refused_rate")


def _rounded(result: Result) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(result).items()
    }


def _table(bench: _Bench, parts: dict[str, Any]) -> list[str]:
    lines = [
        f"overload: the peak, {_MORE} times its connections; many calls on a database slowed to about"
        f" 1/{_MORE} by the bytes it gets, {_BEYOND} times what it takes",
        f"{'':<10}{'connections':>12}{'sent/s':>9}{'202/s':>9}{'p50, p99 ms':>20}"
        f"{'refused/s':>11}{'p50, p99 ms':>20}{'busy':>7}{'MiB':>6}",
    ]
    counts = parts["connections"]
    kinds = {"peak": "peak", "crowded": "crowded", "many": "peak"}
    kinds |= {"slow": "crowded", "easy": "open", "beyond": "open"}
    for name, kind in kinds.items():
        value = partial(bench.median, name)
        lines.append(
            f"{name:<10}{counts[kind]:>12,}{_sent(bench, name):>9,.0f}{value('rate'):>9,.0f}"
            f"{value('p50'):>11.1f},{value('p99'):>8.1f}{value('refused_rate'):>11,.0f}"
            f"{value('refused_p50'):>11.1f},{value('refused_p99'):>8.1f}{value('busy'):>7.2f}"
            f"{bench.memory[name] / _MIB:>6.0f}"
        )
    return [
        *lines,
        f"ratio {parts['ratio_by_connections']:.3f} by connections, crowded over peak;"
        f" {parts['ratio_by_database']:.3f} by the database, beyond over slow; from {_LIMIT:g} on it is good",
        f"slow is {parts['slow_over_many']:.3f} of many, beyond {parts['beyond_over_many']:.3f}",
        f"answers beyond: 202 and {bench.runs['beyond'][0].others}, each refusal with a Retry-After",
        f"memory beyond is good up to {parts['memory_cap'] / _MIB:.0f} MiB, of easy and the journal's limit",
        ", ".join(f"{name} {version}" for name, version in parts["versions"].items()),
    ]
