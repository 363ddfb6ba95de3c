"""What memory a resident idle call takes, one that has left, and a supervisor."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from callactors.store.embedded import EmbeddedPostgres
from tests.benchmarks.crowd import Crowd, allow_files, watching
from tests.benchmarks.machine import one_core_set_apart, resident_set, versions
from tests.benchmarks.processes import Server, callactors, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.sender import READY, ask, deal, packet, send

_STAY: Final = {"CALLACTORS_IDLE_TIMEOUT": "3600", "CALLACTORS_MAX_RESIDENT": "1000000"}
_LEAVE: Final = {"CALLACTORS_IDLE_TIMEOUT": "0.5"}
_STEPS: Final = 5
_SETTLE: Final = 0.5
_POLL_INTERVAL: Final = 0.1
_PATIENCE: Final = 120.0
_FILES: Final = 1_000  # beside the supervisors' sockets
# Calls that have left cost nothing; their limit is for what the allocator does.
_LIMITS: Final[Mapping[str, int]] = {"resident call": 1_536, "passivated call": 64, "supervisor": 20 * 1024}


@dataclass(slots=True)
class _Growth:
    """How a server's resident set grew with how many of a kind were added after the warm-up, in bytes."""

    kind: str
    points: list[tuple[int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    resident_calls: int = 0
    """How many /ready told in the end."""

    @property
    def slope(self) -> float:
        """Bytes for each, by least squares."""
        return statistics.linear_regression(*zip(*self.points, strict=True)).slope

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "bytes_each": round(self.slope, 1),
            "limit": _LIMITS[self.kind],
            "resident_calls": self.resident_calls,
            "points": self.points,
        }


async def memory(options: Options) -> Report:
    """Add calls that stay, calls that leave, and supervisors, each kind to a server of its own."""
    calls, supervisors = (100_000, 2_000) if options.is_long else (20_000, 500)
    allow_files(2 * supervisors + _FILES)
    with one_core_set_apart() as core:
        async with EmbeddedPostgres(data_dir=None) as postgres:
            resident = await _grow_by_calls(postgres.dsn, core, calls, are_kept=True)
            passivated = await _grow_by_calls(postgres.dsn, core, calls, are_kept=False)
            watched = await _grow_by_supervisors(postgres.dsn, core, supervisors)
    growths = (resident, passivated, watched)
    return Report(
        name="memory",
        ratio=_LIMITS[resident.kind] / resident.slope,
        wanted=1.0,
        problems=[problem for growth in growths for problem in growth.problems],
        lines=_table(growths),
        parts={growth.kind.replace(" ", "_"): growth.summary for growth in growths}
        | {"versions": versions()},
    )


async def _grow_by_calls(dsn: str, core: int, count: int, *, are_kept: bool) -> _Growth:
    kind, settings = ("resident call", _STAY) if are_kept else ("passivated call", _LEAVE)
    async with serving(callactors(), core, {"DATABASE_URL": dsn, **settings}) as server:
        calls = _Calls(server, are_kept=are_kept)
        growth = await _grow(kind, server, calls, count)
    growth.resident_calls = calls.resident
    return growth


async def _grow_by_supervisors(dsn: str, core: int, count: int) -> _Growth:
    async with serving(callactors(), core, {"DATABASE_URL": dsn}) as server, watching(server.port) as crowd:
        return await _grow("supervisor", server, partial(_open, crowd), count, warm_up=100)


async def _grow(
    kind: str,
    server: Server,
    add: Callable[[int], Awaitable[str | None]],
    count: int,
    *,
    warm_up: int = 20_000,
) -> _Growth:
    """Add as many as *warm_up*, whose growth does not count, and then *count* in fifths.

    *add* adds so many more and returns what is wrong with that, if anything.
    """
    growth, step = _Growth(kind), count // _STEPS
    for number in range(_STEPS + 1):
        problem = await add(step if number else warm_up)
        if problem is not None:
            growth.problems.append(f"{kind}: {problem}")
        await asyncio.sleep(_SETTLE)
        growth.points.append((number * step, resident_set(server.pid)))
    return growth


class _Calls:
    """Adds calls with one packet each, and waits until /ready tells that all or none of them are resident."""

    def __init__(self, server: Server, *, are_kept: bool) -> None:
        self._port = server.port
        self._are_kept = are_kept
        self._added = 0
        self.resident = 0
        """How many /ready told last."""

    async def __call__(self, count: int) -> str | None:
        kind = "kept" if self._are_kept else "left"
        numbers = range(self._added, self._added + count)
        self._added += count
        answers = await send(self._port, deal([packet(f"{kind}-{number}") for number in numbers]))
        if answers[202] != count:
            return f"{count} packets were answered {dict(answers)}"
        wanted = self._added if self._are_kept else 0
        await self._wait_for(wanted)
        return None if self.resident == wanted else f"{self.resident} calls are resident, not {wanted}"

    async def _wait_for(self, wanted: int) -> None:
        """Return when so many are resident, or when patience is over."""
        until = asyncio.get_running_loop().time() + _PATIENCE
        while True:
            self.resident = (await ask(self._port, READY))["resident_calls"]
            if self.resident == wanted or asyncio.get_running_loop().time() > until:
                return
            await asyncio.sleep(_POLL_INTERVAL)


async def _open(crowd: Crowd, count: int) -> str | None:
    seen = await crowd.open(count)
    return f"{seen.cut} sockets were cut" if seen.cut else None


def _table(growths: Sequence[_Growth]) -> list[str]:
    lines = [f"memory: the resident set's growth, by least squares over {_STEPS} steps"]
    for growth in growths:
        added = growth.points[-1][0]
        mib = [size / 2**20 for _, size in growth.points]
        lines.append(
            f"{growth.kind:<20}{growth.slope:>10,.0f} bytes each (at most {_LIMITS[growth.kind]:,}),"
            f" {added:,} of them: {mib[0]:.1f} to {mib[-1]:.1f} MiB,"
            f" /ready tells {growth.resident_calls:,} resident calls"
        )
    return [*lines, ", ".join(f"{name} {version}" for name, version in versions().items())]
