"""What hostile clients of all kinds do to 200 honest calls, to the server's memory, and to what is stored."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from callactors.store.connection import connect
from tests.benchmarks.crowd import allow_files
from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.honest import CALLS, SHARE, Honest, Rounds
from tests.benchmarks.load import DATA, WARM_UP
from tests.benchmarks.machine import (
    one_core_set_apart,
    peak_memory,
    reset_peak_memory,
    sync_time,
    versions,
)
from tests.benchmarks.mischief import KINDS
from tests.benchmarks.processes import Server, callactors, running_client, serving
from tests.benchmarks.rabble import Deeds, RabblePlan, Told
from tests.benchmarks.report import Options, Report

_LIMIT: Final = 2.0
_RATE: Final = 1_000.0  # packets a second of the honest: the database has a core with the clients
_MEMORY_CAP: Final = 256  # MiB that the server may have at its peak
_SHARE: Final = 0.2  # of all cores, for the hostile
_LONGER: Final = 50  # four rounds of 150 s are 10 minutes
_QUIET_LONGER: Final = 20
_SETTLE: Final = 1.0
_ARRIVAL: Final = 4.0  # seconds before what is measured, in which the hostile come
_KEPT_UP: Final = 0.98
_OTHERS: Final = 0.05
_FILES: Final = 2_000
_MIB: Final = 1024 * 1024

_COMPARE: Final = """
with acknowledged as (select * from unnest($1::text[], $2::bigint[]) as acknowledged (call_id, packets)),
found as (
    select acknowledged.packets as acknowledged,
        count(*) filter (where sequence <= acknowledged.packets and data = $3 and stream = '') as stored,
        count(sequence) as all
    from acknowledged left join calls using (call_id) left join packets using (call_no)
    group by call_id, acknowledged.packets
)
select sum(acknowledged)::bigint, sum(stored)::bigint, sum("all")::bigint from found
"""


class Kept(NamedTuple):
    """How many packets were acknowledged, how many of those are stored, and how many there are in all."""

    acknowledged: int
    stored: int
    all: int

    @property
    def lost(self) -> int:
        return self.acknowledged - self.stored

    @property
    def summary(self) -> dict[str, Any]:
        return {**self._asdict(), "lost": self.lost}


@dataclass(slots=True)
class _Rounds(Rounds):
    """What the honest calls saw, and the server's peak of memory in each round, in bytes."""

    peaks: list[int] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, Any]:
        told = self.honest_summary
        told["others"] = sum((Counter(result.others) for result in self.honest), Counter[str]())
        told["peak_mib_of_rounds"] = [round(peak / _MIB, 1) for peak in self.peaks]
        return told


class _Scene:
    """A server, honest calls, and the hostile that come and go."""

    def __init__(self, server: Server, kinds: Sequence[str]) -> None:
        self._server = server
        self._kinds = kinds
        self.share = _SHARE * (os.cpu_count() or 1)
        self.honest = Honest(server, rate=_RATE, tells_calls=True)
        self.rounds = {name: _Rounds() for name in ("quiet", "hostile")}
        self.told: list[Told] = []
        self.acknowledged: dict[str, int] = {}

    async def choose_rate(self) -> None:
        self.acknowledged |= (await self.honest.choose_rate()).accepted_by_call

    async def quiet(self, seconds: float) -> None:
        await self._run("quiet", seconds)

    async def hostile(self, seconds: float) -> None:
        """Let the hostile come to calls that are under way."""
        sending = asyncio.create_task(self._run("hostile", seconds, warm_up=_ARRIVAL))
        await asyncio.sleep(_ARRIVAL / 4)
        async with besetting(RabblePlan(port=self._server.port, kinds=self._kinds, share=self.share)) as told:
            await sending
        self.told.append(await told)
        await asyncio.sleep(_SETTLE)

    async def _run(self, name: str, seconds: float, *, warm_up: float = WARM_UP) -> None:
        rounds = self.rounds[name]
        reset_peak_memory(self._server.pid)
        result = await self.honest.send(seconds, warm_up=warm_up)
        rounds.peaks.append(peak_memory(self._server.pid))
        rounds.honest.append(result)
        self.acknowledged |= result.accepted_by_call


async def hostile(options: Options) -> Report:
    """Let the honest calls be alone, and beside the hostile, in turn; then look for what was acknowledged."""
    kinds = options.kinds or tuple(KINDS)
    seconds = options.seconds * (_LONGER if options.is_long else 1)
    quiet_seconds = options.seconds * (_QUIET_LONGER if options.is_long else 1)
    allow_files(sum(KINDS[kind].clients for kind in kinds) + _FILES)
    with one_core_set_apart() as core:
        sync = sync_time()
        async with worn_postgres() as postgres:
            async with serving(
                callactors(profile=options.profile), core, {"DATABASE_URL": postgres.dsn}
            ) as server:
                scene = _Scene(server, kinds)
                await scene.choose_rate()
                for _ in range(options.rounds):
                    await scene.quiet(quiet_seconds)
                    await scene.hostile(seconds)
            kept = await compare(postgres.dsn, scene.acknowledged)
    parts: dict[str, Any] = _parts(scene, kept) | {
        "sync_us": round(sync, 1),
        "options": {
            "rounds": options.rounds,
            "seconds": seconds,
            "quiet_seconds": quiet_seconds,
            "kinds": kinds,
            "honest_calls": CALLS,
            "rate": scene.honest.rate,
            "hostile_share_of_a_core": scene.share,
        },
        "versions": versions(),
    }
    return Report(
        name="hostile",
        ratio=_ratio(scene),
        wanted=_LIMIT,
        is_limit=True,
        problems=_problems(scene, kept, parts),
        lines=_table(scene, kept, parts),
        parts=parts,
    )


@asynccontextmanager
async def besetting(plan: RabblePlan) -> AsyncIterator["asyncio.Future[Told]"]:
    """Let hostile clients work meanwhile; the future has what they did, after that."""
    done = asyncio.get_running_loop().create_future()
    async with running_client("tests.benchmarks.rabble", asdict(plan), b"at work") as told:
        yield done
    answer = await told
    deeds = {kind: Deeds(**deed) for kind, deed in answer.pop("deeds").items()}
    done.set_result(Told(deeds=deeds, **answer))


async def compare(dsn: str, acknowledged: dict[str, int]) -> Kept:
    """Look for the packets that were acknowledged: the first so many of each call."""
    connection = await connect(dsn)
    try:
        found = await connection.fetchrow(
            _COMPARE, list(acknowledged), list(acknowledged.values()), DATA, timeout=600
        )
    finally:
        await connection.close()
    if found is None:
        raise RuntimeError("a sum has a row")
    return Kept(*found)


def _ratio(scene: _Scene) -> float:
    return scene.rounds["hostile"].median("p99") / scene.rounds["quiet"].median("p99")


def _parts(scene: _Scene, kept: Kept) -> dict[str, Any]:
    pairs = zip(scene.rounds["hostile"].honest, scene.rounds["quiet"].honest, strict=True)
    peak = max(peak for rounds in scene.rounds.values() for peak in rounds.peaks) / _MIB
    return {
        "limit": _LIMIT,
        "ratio_of_rounds": [round(a.p99 / b.p99, 3) for a, b in pairs],
        "rounds": {name: rounds.summary for name, rounds in scene.rounds.items()},
        "memory_cap_mib": _MEMORY_CAP,
        "memory_peak_mib": round(peak, 1),
        "is_memory_within_cap": peak <= _MEMORY_CAP,
        **kept.summary,
        "hostile_cpu": round(sum(told.cpu for told in scene.told) / _seconds(scene), 4),
        "kinds": {name: _deeds(scene, name) for name in scene.told[0].deeds},
    }


def _deeds(scene: _Scene, kind: str) -> dict[str, Any]:
    """Return what one kind did a second, over all rounds."""
    all_deeds, seconds = [told.deeds[kind] for told in scene.told], _seconds(scene)
    names = ("connections", "cut", "sent", "size", "cpu")
    rates = {name: round(sum(getattr(deeds, name) for deeds in all_deeds) / seconds, 4) for name in names}
    answers = sum((Counter(deeds.answers) for deeds in all_deeds), Counter[str]())
    return {**rates, "answers": {status: round(count / seconds, 1) for status, count in answers.items()}}


def _seconds(scene: _Scene) -> float:
    return sum(told.seconds for told in scene.told)


def _problems(scene: _Scene, kept: Kept, parts: dict[str, Any]) -> list[str]:
    problems = []
    for name, rounds in scene.rounds.items():
        if others := rounds.summary["others"]:
            problems.append(f"{name}: answers to the honest calls other than 202: {dict(others)}")
        if (rate := rounds.median("rate")) < scene.honest.rate * _KEPT_UP:
            problems.append(f"{name}: {rate:.0f} of {scene.honest.rate:.0f} packets a second were sent")
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
    if kept.lost or kept.acknowledged != kept.all:
        problems.append(
            f"{kept.acknowledged} packets were acknowledged, {kept.stored} of them are stored,"
            f" and {kept.all} in all"
        )
    if not parts["is_memory_within_cap"]:
        problems.append(f"the server had {parts['memory_peak_mib']} MiB, not {_MEMORY_CAP}")
    return problems


def _table(scene: _Scene, kept: Kept, parts: dict[str, Any]) -> list[str]:
    options, ratios = parts["options"], parts["ratio_of_rounds"]
    lines = [
        f"hostile: {CALLS} calls send {scene.honest.rate:,.0f} packets a second in all;"
        f" {options['rounds']} rounds of {options['quiet_seconds']:g} s alone,"
        f" and of {options['seconds']:g} s beside hostile clients",
        f"{'':<10}{'202/s':>9}{'p50, p99 ms':>18}{'busy, others':>16}{'client busy, others':>22}"
        f"{'peak MiB':>10}   p99 of the rounds",
    ]
    for name, rounds in parts["rounds"].items():
        lines.append(
            f"{name:<10}{rounds['rate']:>9,.0f}{rounds['p50']:>10.2f},{rounds['p99']:>7.2f}"
            f"{rounds['busy']:>9.3f},{rounds['waiting']:>6.3f}"
            f"{rounds['client_busy']:>15.3f},{rounds['client_waiting']:>6.3f}"
            f"{max(rounds['peak_mib_of_rounds']):>10.0f}   {', '.join(map(str, rounds['p99_of_rounds']))}"
        )
    return [
        *lines,
        *_kinds(parts),
        f"ratio {_ratio(scene):.3f}, hostile p99 over quiet (rounds {min(ratios):.2f}-{max(ratios):.2f});"
        f" up to {_LIMIT:g} is good",
        f"{kept.acknowledged:,} packets acknowledged, {kept.lost:,} of them lost, {kept.all:,} stored in all;"
        f" memory {parts['memory_peak_mib']:.0f} MiB at its peak, up to {_MEMORY_CAP} is good",
        f"a write and fdatasync takes {parts['sync_us']:.0f} us; {os.cpu_count()} cores",
        ", ".join(f"{name} {version}" for name, version in parts["versions"].items()),
    ]


def _kinds(parts: dict[str, Any]) -> list[str]:
    lines = [
        f"the hostile used {parts['hostile_cpu']:.3f} of a core,"
        f" of {parts['options']['hostile_share_of_a_core']:.1f}; each second",
        f"{'':<12}{'connections':>12}{'cut':>8}{'sent':>10}{'KiB':>9}{'CPU':>8}   answers",
    ]
    for name, kind in parts["kinds"].items():
        answers = ", ".join(f"{status}: {count:,.0f}" for status, count in sorted(kind["answers"].items()))
        lines.append(
            f"{name:<12}{kind['connections']:>12,.1f}{kind['cut']:>8,.1f}{kind['sent']:>10,.0f}"
            f"{kind['size'] / 1024:>9,.0f}{kind['cpu']:>8.3f}   {answers}"
        )
    return lines
