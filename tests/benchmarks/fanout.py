"""How soon supervisors see an event, and sends per second over those of a bare loop on one busy core each."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import asyncpg

from callactors.store.connection import Pool
from tests.benchmarks.crowd import Crowd, allow_files, watching
from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.machine import Reading, one_core_set_apart, versions
from tests.benchmarks.processes import Server, callactors, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.sender import ask, complete, packet, post, send
from tests.benchmarks.watchers import Seen

_WANTED: Final = 0.6
_BUSY: Final = 0.95
_OTHERS: Final = 0.05
_P99: Final = 100.0  # ms that an event may take to the last supervisors
_RATE: Final = 20.0  # events a second while their age is taken
_WARM_UP: Final = 1.0
_CONNECTIONS: Final = 8  # of those who make events as fast as they are taken
_FILES: Final = 1_000  # beside the sockets
_BARE: Final = ("-m", "tests.benchmarks.bare_fanout")

_TRANSITIONS: Final = "select count(*) from call_events where kind = 'transition'"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """What came of some seconds: `wanted` frames were sent.

    rate in sends per second, cpu_per_send in microseconds of the server process, size of a frame in bytes;
    busy, waiting and crowd_busy are shares of the wall time.
    """

    wanted: int
    frames: int
    size: float
    rate: float
    busy: float
    waiting: float
    cpu_per_send: float
    cut: int
    crowd_busy: float


@dataclass(slots=True)
class _Arm:
    """One of the two servers, how many watch it, and what it did."""

    name: str
    supervisors: int
    server: Server
    crowd: Crowd
    rounds: list[_Round] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    async def run(self, work: Awaitable[int]) -> None:
        """Do *work*, which returns how often it sends to all, until everything has come."""
        await self.crowd.begin()
        begin, before = time.time(), Reading.take(self.server.pid)
        wanted = await work * self.supervisors
        seen = await self.crowd.see(wanted)
        after = Reading.take(self.server.pid)
        wall, cpu = seen.last_at - begin, after.cpu - before.cpu
        self.rounds.append(
            _Round(
                wanted=wanted,
                frames=seen.frames,
                size=seen.size / max(seen.frames, 1),
                rate=seen.frames / wall,
                busy=cpu / wall,
                waiting=(after.waiting - before.waiting) / wall,
                cpu_per_send=cpu / max(seen.frames, 1) * 1e6,
                cut=seen.cut,
                crowd_busy=seen.busy,
            )
        )

    def median(self, name: str) -> float:
        """Return the median over the rounds of one of their numbers."""
        return float(statistics.median(getattr(a_round, name) for a_round in self.rounds))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ages:
    """How old events were on arrival, and the server's share of the time; busy and waiting as in _Round."""

    wanted: int
    seen: Seen
    busy: float
    waiting: float

    @property
    def summary(self) -> dict[str, Any]:
        told = {
            "wanted": self.wanted,
            "frames": self.seen.frames,
            "p50_ms": self.seen.p50,
            "p99_ms": self.seen.p99,
            "highest_ms": self.seen.highest,
            "busy": self.busy,
            "waiting": self.waiting,
            "crowd_busy": self.seen.busy,
        }
        return _rounded(told)


class _Events:
    """Makes events by packets and completes, and counts in the log how many that were."""

    def __init__(self, port: int, pool: Pool) -> None:
        self._port = port
        self._pool = pool
        self._made = 0
        self.answers: Counter[int] = Counter()

    async def at_rate(self, seconds: float) -> int:
        """Make an event at a time by the first packet of a call, and return how many there were."""
        before, begin = await self._count(), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * _RATE)):
                await asyncio.sleep(begin + number / _RATE - time.monotonic())
                group.create_task(self._send([[packet(self._new_call())]]))
        return await self._count() - before

    async def at_most(self, seconds: float) -> int:
        """Make as many as the server takes on some connections, and return how many there were."""
        before, until = await self._count(), time.monotonic() + seconds
        await self._send([self._calls(until) for _ in range(_CONNECTIONS)])
        return await self._count() - before

    async def _send(self, streams: Sequence[Iterable[bytes]]) -> None:
        self.answers += await send(self._port, streams)

    async def _count(self) -> int:
        counted: int = await self._pool.fetchval(_TRANSITIONS)
        return counted

    def _calls(self, until: float) -> Iterator[bytes]:
        """Yield calls of four events: a busy one fails at once."""
        while time.monotonic() < until:
            call_id = self._new_call()
            yield packet(call_id)
            yield complete(call_id, reason="busy")

    def _new_call(self) -> str:
        self._made += 1
        return f"call-{self._made}"


async def fanout(options: Options) -> Report:
    """Take the ages of some events a second, and then fill the time of both servers in turn."""
    supervisors = 2_000 if options.is_long else 300
    allow_files(supervisors + _FILES)
    with one_core_set_apart() as core:
        ours, bare, ages = await _measure(options, core, supervisors)
    parts = {
        "supervisors": supervisors,
        "limit_p99_ms": _P99,
        "ages": ages.summary,
        "ratio_by_cpu": round(bare.median("cpu_per_send") / ours.median("cpu_per_send"), 4),
        "ratio_of_rounds": [round(a.rate / b.rate, 4) for a, b in zip(ours.rounds, bare.rounds, strict=True)],
        "arms": {arm.name: [_rounded(asdict(a_round)) for a_round in arm.rounds] for arm in (ours, bare)},
        "options": {"rounds": options.rounds, "seconds": options.seconds, "event_rate": _RATE},
        "versions": versions(),
    }
    ratio = ours.median("rate") / bare.median("rate")
    return Report(
        name="fanout",
        ratio=ratio,
        wanted=_WANTED,
        problems=[*_problems_of_ages(ages), *_problems(ours), *_problems(bare)],
        lines=_table(ours, bare, ages, ratio, parts),
        parts=parts,
    )


async def _measure(options: Options, core: int, supervisors: int) -> tuple[_Arm, _Arm, _Ages]:
    command = callactors(profile=options.profile)
    async with (
        worn_postgres() as postgres,
        asyncpg.create_pool(postgres.dsn, min_size=1, max_size=1) as pool,
        _arm("callactors", command, core, {"DATABASE_URL": postgres.dsn}, supervisors) as ours,
        _arm("bare", _BARE, core, {}, supervisors) as bare,
    ):
        events = _Events(ours.server.port, pool)
        await _take_ages(ours, events, _WARM_UP)
        ages = await _take_ages(ours, events, 10.0 if options.is_long else 5.0)
        for _ in range(options.rounds):
            await ours.run(events.at_most(options.seconds))
            await bare.run(_send_bare(bare, options.seconds, round(ours.median("size"))))
    if others := {status: count for status, count in events.answers.items() if status != 202}:
        ours.problems.append(f"answers other than 202: {others}")
    return ours, bare, ages


@asynccontextmanager
async def _arm(
    name: str, command: Sequence[str], core: int, env: Mapping[str, str], supervisors: int
) -> AsyncIterator[_Arm]:
    async with serving(command, core, env) as server, watching(server.port) as crowd:
        await crowd.open(supervisors)
        yield _Arm(name, supervisors, server, crowd)


async def _take_ages(arm: _Arm, events: _Events, seconds: float) -> _Ages:
    """Take the age of every event at every supervisor.

    It counts from the event's `at`, which is taken before the commit and cut to a millisecond: no age is told
    too low.
    """
    await arm.crowd.begin(is_timed=True)
    before = Reading.take(arm.server.pid)
    wanted = await events.at_rate(seconds) * arm.supervisors
    after = Reading.take(arm.server.pid)
    seen = await arm.crowd.see(wanted)
    wall = after.at - before.at
    return _Ages(
        wanted=wanted,
        seen=seen,
        busy=(after.cpu - before.cpu) / wall,
        waiting=(after.waiting - before.waiting) / wall,
    )


async def _send_bare(arm: _Arm, seconds: float, size: int) -> int:
    told = await ask(arm.server.port, post("/send", {"seconds": seconds, "size": size}))
    sends: int = told["sends"]
    return sends // arm.supervisors


def _problems(arm: _Arm) -> list[str]:
    problems = [*arm.problems]
    if (busy := arm.median("busy")) < _BUSY:
        problems.append(
            f"{arm.name}: the server was busy for {busy:.3f} of the time, not {_BUSY};"
            f" for {arm.median('waiting'):.3f} it was ready, but others had its core"
        )
    problems += [
        f"{arm.name}: of {a_round.wanted} frames {a_round.frames} have come, {a_round.cut} sockets are cut"
        for a_round in arm.rounds
        if a_round.frames != a_round.wanted or a_round.cut
    ]
    return problems


def _problems_of_ages(ages: _Ages) -> list[str]:
    problems = []
    if ages.waiting > _OTHERS:
        problems.append(f"others had the server's core for {ages.waiting:.3f} of the time ages were taken")
    if ages.seen.frames != ages.wanted:
        problems.append(f"of {ages.wanted} frames whose age is taken {ages.seen.frames} have come")
    return problems


def _rounded(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in numbers.items()}


def _table(ours: _Arm, bare: _Arm, ages: _Ages, ratio: float, parts: Mapping[str, Any]) -> list[str]:
    def line(title: str, form: str) -> str:
        columns = [
            {name: arm.median(name) for name in ("rate", "cpu_per_send", "busy", "waiting", "crowd_busy")}
            for arm in (ours, bare)
        ]
        return f"{title:<34}" + "".join(f"{form.format(**column):>20}" for column in columns)

    rounds, seen = parts["ratio_of_rounds"], ages.seen
    return [
        f"fanout: {ours.supervisors:,} supervisors",
        f"an event's age on arrival: p50 {seen.p50:.1f}, p99 {seen.p99:.1f} (at most {_P99:g}),"
        f" highest {seen.highest:.1f} ms",
        f"  in {seen.frames:,} frames, {_RATE:g} events a second; server busy {ages.busy:.3f},"
        f" others on its core {ages.waiting:.3f}, crowd {seen.busy:.3f}",
        f"{'':<34}{ours.name:>20}{bare.name:>20}",
        line("sends per second", "{rate:,.0f}"),
        line("server CPU per send, us", "{cpu_per_send:.2f}"),
        line("server busy, others on its core", "{busy:.3f}, {waiting:.3f}"),
        line("crowd busy", "{crowd_busy:.3f}"),
        f"ratio {ratio:.3f} (rounds {min(rounds):.3f}-{max(rounds):.3f}),"
        f" by CPU per send {parts['ratio_by_cpu']:.3f}; frames of {ours.median('size'):.0f} bytes",
        ", ".join(f"{name} {version}" for name, version in versions().items()),
    ]
