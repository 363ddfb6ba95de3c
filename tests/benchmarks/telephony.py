"""How many legs of a telephony vendor, of 50 messages a second each, two cores take: the client's is one."""

import asyncio
import hashlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

from callactors.packets import Packet
from callactors.simulate.actions import Send
from callactors.simulate.scripts import make_script
from callactors.store.connection import connect
from callactors.vendors.json_media import JsonMediaParser
from tests.benchmarks.callers import VENDOR, Called, CallersPlan
from tests.benchmarks.crowd import allow_files
from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.machine import one_core_set_apart, sync_time, versions
from tests.benchmarks.measured import read_report
from tests.benchmarks.processes import run_client, serving
from tests.benchmarks.report import Options, Report

_LEGS: Final = 200
_STEP: Final = 100
_MOST_LEGS: Final = 2_000
_ACK_LIMIT: Final = 250.0  # ms, the p99
_LAG_LIMIT: Final = 50.0  # ms, the p99
_LATE_LIMIT: Final = 20.0  # ms, the p99 of the client: a frame
_LONGER: Final = 20  # 60 s
_STEP_LONGER: Final = 5
_OTHERS: Final = 0.05
_TRIALS: Final = 3
_PATIENCE: Final = 15.0
_POLL_INTERVAL: Final = 0.2
_SETTLE: Final = 4.0  # seconds; the AI step of the calls before is over then
_FILES: Final = 1_000

_STORED: Final = """
select call_id, stream, count(*) as packets, min(sequence) as first, max(sequence) as last,
    md5(string_agg(data, ',' order by sequence)) as digest
from packets join calls using (call_no) where call_id = any($1) group by call_id, stream
"""
_COUNT: Final = "select count(*) from packets join calls using (call_no) where call_id = any($1)"


class Kept(NamedTuple):
    """How many messages were sent, how many of them are not stored, and how many calls have others."""

    sent: int
    lost: int
    wrong_calls: int


@dataclass(frozen=True, slots=True)
class _Step:
    """What so many legs saw."""

    legs: int
    called: Called
    kept: Kept
    acks: Mapping[str, float]
    lags: Mapping[str, float]
    unstored: int

    @property
    def ratio(self) -> float:
        """The figure that is nearest to its limit, or beyond it, over that."""
        return max(self.acks["p99"] / _ACK_LIMIT, self.lags["p99"] / _LAG_LIMIT)

    @property
    def missed(self) -> list[str]:
        """The figures that are not as wanted."""
        figures = (("acks", self.acks, _ACK_LIMIT), ("loop lag", self.lags, _LAG_LIMIT))
        return [
            f"{name} p99 {times['p99']:.0f} ms, not {limit:g}"
            for name, times, limit in figures
            if times["p99"] > limit
        ]

    @property
    def faults(self) -> list[str]:
        """Why the figures do not tell of a server that took it all."""
        called, kept, faults = self.called, self.kept, []
        if called.failed:
            faults.append(f"connections that failed: {called.failed}")
        if kept.lost or kept.wrong_calls:
            faults.append(
                f"{kept.lost} of {kept.sent} messages are not stored, {kept.wrong_calls} calls differ"
            )
        if self.unstored:
            faults.append(f"{self.unstored} packets could not be stored at once")
        if called.late["p99"] > _LATE_LIMIT:
            faults.append(f"the client was late: p99 {called.late['p99']:.0f} ms, not {_LATE_LIMIT:g}")
        return faults

    @property
    def is_broken(self) -> bool:
        """Whether anything is not as wanted."""
        return bool(self.missed or self.faults)

    @property
    def is_disturbed(self) -> bool:
        """Whether others had the core of the server, so that it may not be its own doing."""
        return self.called.waiting > _OTHERS

    @property
    def summary(self) -> dict[str, Any]:
        called = {name: value for name, value in asdict(self.called).items() if name != "sent"}
        return {
            "legs": self.legs,
            **{
                name: round(value, 4) if isinstance(value, float) else value for name, value in called.items()
            },
            "cpu_us": round(self.called.busy / self.called.rate * 1e6, 1),
            **self.kept._asdict(),
            "acks": self.acks,
            "lags": self.lags,
            "unstored": self.unstored,
            "broken": [*self.missed, *self.faults],
        }


class Scene:
    """A server with instruments, which report to the file at *path*."""

    def __init__(self, port: int, pid: int, dsn: str, path: Path) -> None:
        self._port = port
        self._pid = pid
        self._dsn = dsn
        self._path = path
        self._runs = 0

    async def run(self, legs: int, seconds: float) -> _Step:
        """Let so many legs send for *seconds*, and look for what they have sent."""
        self._runs += 1
        self._path.write_text("")
        plan = CallersPlan(
            port=self._port,
            pid=self._pid,
            run=f"{os.getpid()}-{self._runs}",
            legs=legs,
            seconds=seconds,
        )
        called = Called(**await run_client("tests.benchmarks.callers", asdict(plan)))
        kept = await compare(self._dsn, plan, called.sent)
        os.kill(self._pid, signal.SIGUSR2)
        sending, after = await read_report(self._path, 2)
        return _Step(legs, called, kept, after["acks"], sending["lags"], after["unstored"])


async def telephony(options: Options) -> Report:
    """Let 200 legs send; in the long form then more and more, until a figure is missed."""
    seconds = options.seconds * (_LONGER if options.is_long else 1)
    step_seconds = options.seconds * _STEP_LONGER
    allow_files(_MOST_LEGS + _FILES)
    with one_core_set_apart() as core:
        sync = sync_time()
        async with worn_postgres() as postgres, measuring(postgres.dsn, core, options.profile) as scene:
            steps = [await scene.run(_LEGS, seconds)]
            if options.is_long:
                steps += [step async for step in _climb(scene, step_seconds)]
    first, *_ = steps
    parts = {
        "limits": {"ack_p99_ms": _ACK_LIMIT, "lag_p99_ms": _LAG_LIMIT, "late_p99_ms": _LATE_LIMIT},
        "steps": [step.summary for step in steps],
        "sync_us": round(sync, 1),
        "options": {"legs": _LEGS, "seconds": seconds, "step_seconds": step_seconds, "vendor": VENDOR},
        "versions": versions(),
    }
    return Report(
        name="telephony",
        ratio=first.ratio,
        wanted=1.0,
        is_limit=True,
        problems=_problems(steps),
        lines=_table(steps, parts),
        parts=parts,
    )


@asynccontextmanager
async def measuring(dsn: str, core: int, profile: Path | None = None) -> AsyncIterator[Scene]:
    """Run a server with instruments on *core*."""
    profiled = () if profile is None else ("-m", "cProfile", "-o", str(profile))
    command = (*profiled, "-m", "tests.benchmarks.measured", "serve", "--port", "0")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report"
        async with serving(command, core, {"DATABASE_URL": dsn, "MEASURED_REPORT": str(path)}) as server:
            yield Scene(server.port, server.pid, dsn, path)


async def _climb(scene: Scene, seconds: float) -> AsyncIterator[_Step]:
    """Yield steps up to the first that is broken; one that others have disturbed is made again."""
    for legs in range(_LEGS + _STEP, _MOST_LEGS + 1, _STEP):
        for _ in range(_TRIALS):
            await asyncio.sleep(_SETTLE)
            step = await scene.run(legs, seconds)
            if not (step.is_broken and step.is_disturbed):
                break
        yield step
        if step.is_broken:
            return


async def compare(
    dsn: str, plan: CallersPlan, sent: Mapping[str, int], *, patience: float = _PATIENCE
) -> Kept:
    """Look for what was *sent*, when all of it is stored or *patience* is over."""
    total, calls, until = sum(sent.values()), list(sent), monotonic() + patience
    connection = await connect(dsn)
    try:
        while monotonic() < until:
            if await connection.fetchval(_COUNT, calls) >= total:
                break
            await asyncio.sleep(_POLL_INTERVAL)
        rows = await connection.fetch(_STORED, calls, timeout=600)
    finally:
        await connection.close()
    digests = _digest(plan)
    streams = {ids.call: ids.stream for ids in map(plan.make_ids, range(plan.legs))}
    stored = {row["call_id"]: row["packets"] for row in rows}
    right = {
        row["call_id"]
        for row in rows
        if row["stream"] == streams[row["call_id"]]
        and (row["first"], row["last"]) == (1, row["packets"])
        and row["digest"] == digests[row["packets"]]
    }
    lost = sum(max(count - stored.get(call_id, 0), 0) for call_id, count in sent.items())
    wrong = [call_id for call_id, count in sent.items() if call_id not in right or stored[call_id] != count]
    return Kept(total, lost, len(wrong))


def _digest(plan: CallersPlan) -> list[str]:
    """Return the digest of what is to be stored of a call, by how many of its packets there are."""
    parser, digest, digests = (
        JsonMediaParser(VENDOR, store_media=False),
        hashlib.md5(usedforsecurity=False),
        [""],
    )
    for action in make_script(VENDOR, plan.make_ids(0), plan.leg_seconds):
        if isinstance(action, Send) and isinstance(action.frame, str):
            for step in parser.text(action.frame):
                if isinstance(step, Packet):
                    digest.update(b"," * (len(digests) > 1) + step.data.encode())
                    digests.append(digest.hexdigest())
    return digests


def _problems(steps: Sequence[_Step]) -> list[str]:
    return [
        *steps[0].faults,
        *(
            f"at {step.legs} legs others had the core of the server for {step.called.waiting:.3f} of the time"
            for step in steps
            if step.is_disturbed
        ),
    ]


def _table(steps: Sequence[_Step], parts: Mapping[str, Any]) -> list[str]:
    options, last = parts["options"], steps[-1]
    longer = f", more for {options['step_seconds']:g} s" if len(steps) > 1 else ""
    lines = [
        f"telephony: legs in the format of {VENDOR}, 50 messages a second each;"
        f" {_LEGS} for {options['seconds']:g} s{longer}",
        f"{'legs':>6}{'messages/s':>12}{'lost':>6}{'acks p50, p99, max ms':>26}"
        f"{'loop lag p50, p99, max ms':>28}"
        f"{'busy, others':>15}{'us':>6}{'client late p50, p99, max ms':>31}{'busy, its core':>17}",
    ]
    for step in steps:
        called = step.called
        lines.append(
            f"{step.legs:>6,}{called.rate:>12,.0f}{step.kept.lost:>6,}{_show(step.acks):>26}"
            f"{_show(step.lags):>28}{called.busy:>8.3f}, {called.waiting:.3f}"
            f"{called.busy / called.rate * 1e6:>6.0f}{_show(called.late):>31}"
            f"{called.client_busy:>10.3f}, {called.beside_busy:.3f}"
        )
    if len(steps) > 1:
        broken = "; ".join([*last.missed, *last.faults])
        lines.append(f"at {last.legs:,} legs: {broken or 'nothing is missed yet'}")
    return [
        *lines,
        f"ratio {steps[0].ratio:.3f} at {_LEGS} legs, the worse of the p99s over its limit: acks"
        f" {_ACK_LIMIT:g} ms, loop lag {_LAG_LIMIT:g} ms; up to 1 is good",
        f"a write and fdatasync takes {parts['sync_us']:.0f} us; {os.cpu_count()} cores",
        ", ".join(f"{name} {version}" for name, version in parts["versions"].items()),
    ]


def _show(times: Mapping[str, float]) -> str:
    return f"{times['p50']:.1f}, {times['p99']:.1f}, {times['max']:.1f}"
