"""What one call that sends flat out does to 200 that do not: the latency of their 202s, quiet and loud."""

import asyncio
import os
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.honest import CALLS, SHARE, Honest, Rounds
from tests.benchmarks.load import DATA
from tests.benchmarks.loud import Heard, Kind, LoudPlan
from tests.benchmarks.machine import one_core_set_apart, sync_time, versions
from tests.benchmarks.processes import Server, callactors, running_client, serving
from tests.benchmarks.report import Options, Report

_LIMIT: Final = 2.0
_KEPT_UP: Final = 0.98
_OTHERS: Final = 0.05
_LOUD_CONNECTIONS: Final = 400  # more than a mailbox takes
_FULL: Final = {"429"}
_SETTLE: Final = 0.5
_ROUNDS: Final = 2
_LONGER: Final = 3


@dataclass(slots=True)
class _Rounds(Rounds):
    """What the honest calls saw while a loud one of some kind was there, or none, and what that was told."""

    loud: list[Heard] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, Any]:
        told = self.honest_summary
        if self.loud:
            told["loud_rate"] = round(statistics.median(heard.rate for heard in self.loud), 1)
            told["loud_others"] = sum((Counter(heard.others) for heard in self.loud), Counter[str]())
        return told


class _Scene:
    """A server, and honest calls that send to it."""

    def __init__(self, server: Server, seconds: float) -> None:
        self._server = server
        self._seconds = seconds
        self._runs = 0
        self.honest = Honest(server)
        self.rounds = {name: _Rounds() for name in ("quiet", "ndjson", "single")}

    async def quiet(self) -> None:
        self.rounds["quiet"].honest.append(await self.honest.send(self._seconds))

    async def loud(self, kind: Kind) -> None:
        rounds = self.rounds[kind]
        self._runs += 1
        plan = LoudPlan(
            kind=kind, port=self._server.port, call_id=f"{kind}-{self._runs}", connections=_LOUD_CONNECTIONS
        )
        async with sending(plan) as heard:
            rounds.honest.append(await self.honest.send(self._seconds))
        rounds.loud.append(await heard)
        await asyncio.sleep(_SETTLE)


async def fairness(options: Options) -> Report:
    """Let the honest calls be alone, beside a body of NDJSON, and beside single packets, in turn."""
    seconds = options.seconds * (_LONGER if options.is_long else 1)
    rounds = options.rounds if options.is_long else _ROUNDS
    with one_core_set_apart() as core:
        sync = sync_time()
        async with (
            worn_postgres() as postgres,
            serving(callactors(profile=options.profile), core, {"DATABASE_URL": postgres.dsn}) as server,
        ):
            scene = _Scene(server, seconds)
            await scene.honest.choose_rate()
            for _ in range(rounds):
                await scene.quiet()
                await scene.loud("ndjson")
                await scene.quiet()
                await scene.loud("single")
    kinds: tuple[Kind, ...] = ("ndjson", "single")
    ratios = {kind: _ratio(scene, kind) for kind in kinds}
    parts = {
        "limit": _LIMIT,
        "ratio_single": round(ratios["single"], 4),
        "ratio_of_rounds": _ratios_of_rounds(scene, "ndjson"),
        "ratio_single_of_rounds": _ratios_of_rounds(scene, "single"),
        "rounds": {name: rounds.summary for name, rounds in scene.rounds.items()},
        "sync_us": round(sync, 1),
        "options": {
            "rounds": rounds,
            "seconds": seconds,
            "honest_calls": CALLS,
            "rate": scene.honest.rate,
            "loud_connections": _LOUD_CONNECTIONS,
            "data_bytes": len(DATA),
        },
        "versions": versions(),
    }
    return Report(
        name="fairness",
        ratio=ratios["ndjson"],
        wanted=_LIMIT,
        is_limit=True,
        problems=_problems(scene),
        lines=_table(scene, ratios, parts),
        parts=parts,
    )


@asynccontextmanager
async def sending(plan: LoudPlan) -> AsyncIterator["asyncio.Future[Heard]"]:
    """Let a process send flat out meanwhile; the future has what it was told, after that."""
    heard = asyncio.get_running_loop().create_future()
    async with running_client("tests.benchmarks.loud", asdict(plan), b"sending") as told:
        yield heard
    heard.set_result(Heard(**await told))


def _ratio(scene: _Scene, kind: Kind) -> float:
    return scene.rounds[kind].median("p99") / scene.rounds["quiet"].median("p99")


def _ratios_of_rounds(scene: _Scene, kind: Kind) -> list[float]:
    """Compare each loud round with the quiet one before it."""
    quiet = scene.rounds["quiet"].honest[0 if kind == "ndjson" else 1 :: 2]
    return [round(a.p99 / b.p99, 3) for a, b in zip(scene.rounds[kind].honest, quiet, strict=True)]


def _problems(scene: _Scene) -> list[str]:
    problems = []
    for name, rounds in scene.rounds.items():
        if others := sum((Counter(result.others) for result in rounds.honest), Counter[str]()):
            problems.append(f"{name}: answers to the honest calls other than 202: {dict(others)}")
        if (rate := rounds.median("rate")) < scene.honest.rate * _KEPT_UP:
            problems.append(f"{name}: {rate:.0f} of {scene.honest.rate:.0f} packets a second were sent")
        told = sum((Counter(heard.others) for heard in rounds.loud), Counter[str]())
        if set(told) - (_FULL if name == "single" else set()):
            problems.append(f"{name}: answers to the loud call other than 202: {dict(told)}")
        problems += [
            f"{name}: for {share:.3f} of the time others had the core of the {who}"
            for who, share in (
                ("server", rounds.median("waiting")),
                ("honest", rounds.median("client_waiting")),
            )
            if share > _OTHERS
        ]
    if (busy := scene.rounds["quiet"].median("busy")) > SHARE + _OTHERS:
        problems.append(f"quiet: the server was busy for {busy:.3f} of the time, not {SHARE}")
    return problems


def _table(scene: _Scene, ratios: dict[Kind, float], parts: dict[str, Any]) -> list[str]:
    options = parts["options"]
    lines = [
        f"fairness: {CALLS} calls send {scene.honest.rate:,.0f} packets a second in all;"
        f" {options['rounds']} rounds of {options['seconds']:g} s: quiet;"
        f" one more call sends NDJSON flat out; quiet; it sends single packets"
        f" over {_LOUD_CONNECTIONS} connections",
        f"{'':<10}{'202/s':>9}{'p50, p99 ms':>18}{'busy, others':>16}{'client busy, others':>22}"
        f"{'loud packets/s':>16}",
    ]
    for name, rounds in scene.rounds.items():
        value = rounds.summary
        lines.append(
            f"{name:<10}{value['rate']:>9,.0f}{value['p50']:>10.2f},{value['p99']:>7.2f}"
            f"{value['busy']:>9.3f},{value['waiting']:>6.3f}"
            f"{value['client_busy']:>15.3f},{value['client_waiting']:>6.3f}"
            f"{value.get('loud_rate', 0):>16,.0f}"
        )
    single = parts["rounds"]["single"]
    return [
        *lines,
        f"ratio {ratios['ndjson']:.3f}, loud p99 over quiet (rounds {_range(parts['ratio_of_rounds'])});"
        f" up to {_LIMIT:g} is good",
        f"beside single packets {ratios['single']:.3f} (rounds {_range(parts['ratio_single_of_rounds'])}),"
        f" answers to those: 202 and {dict(single['loud_others'])}",
        f"a write and fdatasync takes {parts['sync_us']:.0f} us; {os.cpu_count()} cores",
        ", ".join(f"{name} {version}" for name, version in parts["versions"].items()),
    ]


def _range(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f}-{max(ratios):.2f}"
