"""What a packet and a claim cost as calls, packets and old snapshots pile up: in buffers and bytes of WAL."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, cast

from callactors.facts import Change, Facts, Row
from callactors.packets import Packet
from callactors.sequence import StreamSequence
from callactors.store.claims import _CLAIM
from callactors.store.connection import Connection, connect
from callactors.store.embedded import EmbeddedPostgres
from callactors.store.flush import CallChanges, flush
from callactors.store.migrations import migrate
from callactors.store.nodes import LEASE
from tests.benchmarks.databases import add_database
from tests.benchmarks.load import DATA
from tests.benchmarks.machine import versions
from tests.benchmarks.meter import Cost, Meter
from tests.benchmarks.report import Options, Report

_LIMIT: Final = 1.2
_ME: Final = "me/1"
_ACTIVE: Final = 64  # calls that packets come for: every 15th of the newest
_STEP: Final = 15
_TURNS: Final = {"packet": 50, "packet and row": 5, "claim": 5, "new call": 50}
"""How often each is measured, behind as many that warm up: seldom what leaves a version of a call's row."""
_MAX_IMAGES: Final = 0.02  # an item; a full-page image is as long as the WAL of some dozen packets
_ROW_INTERVAL: Final = 20.0  # seconds in which a call of 50 packets a second has _ROW_PACKETS
_ROW_PACKETS: Final = 1_000
_PER_ROW: Final = 10  # flushes
_STREAMS: Final = '{"": {"last": 1, "missing": [[0, 0]]}}'

# A checkpoint within a measurement would add full-page images at random.
_SETTINGS: Final = {"checkpoint_timeout": "1h", "max_wal_size": "16GB"}

_ADD_CALLS: Final = """
with made as (
    insert into calls (call_id, streams, packets)
    select 'bulk-' || lpad(g::text, 9, '0'), $3, 1 from generate_series($1::int8, $2::int8) g
    returning call_no, call_id
), told as (
    insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)
    select call_no, 1, call_id, 'transition', 'IN_PROGRESS', 0, '{}' from made
)
insert into packets select call_no, 1, 1, now(), '', $4 from made
"""
_ADD_PACKETS: Final = """
insert into packets select call_no, g, 1, now(), '', $4 from calls, generate_series($1::int8, $2::int8) g
where call_id = $3
"""
_READ: Final = "select call_id, call_no, epoch from calls where call_id = any($1) order by call_id"
_FIRST_WAKE: Final = 3_600.0
_SETTLE: Final = ("vacuum (analyze) calls, packets, call_events", "checkpoint")


class _Scene:
    """A database, and calls that this node has claimed."""

    def __init__(self, sql: Connection) -> None:
        self.sql = sql
        self._meter = Meter(sql)
        self._calls: list[tuple[str, int, int]] = []
        self._next = 2
        self._made = 0

    async def hold(self, call_ids: Sequence[str], next_sequence: int) -> None:
        """Let all that follows be about these calls, with nothing missing before *next_sequence*."""
        self._next = next_sequence
        await self.claim(call_ids)

    async def claim(self, call_ids: Sequence[str], *, is_new: bool = False) -> Cost:
        creates = [is_new] * len(call_ids)
        await self._meter.fetchrow(_CLAIM, _ME, list(call_ids), creates, [], False, LEASE, _FIRST_WAKE)
        if not is_new:
            records = await self.sql.fetch(_READ, list(call_ids))
            self._calls = [(r["call_id"], r["call_no"], r["epoch"]) for r in records]
        return self._meter.read()

    async def flush(self, packets: int, *, has_row: bool = False) -> Cost:
        """Flush *packets* for each call, the last one with the call's row."""
        sent = [Packet(sequence=self._next + i, data=DATA, timestamp=1.0) for i in range(packets)]
        changes = [Change((packet,)) for packet in sent]
        self._next += packets
        if has_row:
            streams = {"": StreamSequence(self._next, ((0, 0),))}
            changes[-1] = changes[-1]._replace(row=Row(Facts(), streams, self._next - 1, 0, 0))
        calls = [CallChanges(call_no, call_id, epoch, changes) for call_id, call_no, epoch in self._calls]
        await flush(cast("Connection", self._meter), _ME, calls)
        return self._meter.read()

    async def measure(
        self, kinds: Sequence[str] = tuple(_TURNS), *, packets: int = 1, is_warm: bool = False
    ) -> dict[str, Cost]:
        """Return what each kind of statement costs, for each packet or each claim."""
        if not is_warm:
            await self.measure(kinds, packets=packets, is_warm=True)
        return {kind: (await self._repeat(kind, packets)).per(_TURNS[kind]) for kind in kinds}

    async def _repeat(self, kind: str, packets: int) -> Cost:
        ids = [call_id for call_id, _, _ in self._calls]
        total = Cost()
        for _ in range(_TURNS[kind]):
            match kind:
                case "claim":
                    cost = (await self.claim(ids)).per(len(ids))
                case "new call":
                    self._made += 1
                    new = [f"new-{self._made:06d}-{i:02d}" for i in range(len(ids))]
                    cost = (await self.claim(new, is_new=True)).per(len(ids))
                case _:
                    cost = await self.flush(packets, has_row=kind == "packet and row")
                    cost = cost.per(len(ids) * packets)
            total += cost
        return total


class Series(NamedTuple):
    """What is measured at each of some sizes; the first is what the others are compared with."""

    title: str
    costs: dict[str, dict[str, Cost]]

    def factors(self) -> dict[str, float]:
        """Return how much more each costs at the last size than at the first."""
        first, *_, last = self.costs.values()
        return {
            f"{kind}, {unit}": getattr(last[kind], unit) / getattr(first[kind], unit)
            for kind in first
            for unit in ("buffers", "wal")
        }


async def growth(options: Options) -> Report:
    """Measure all three series, each in a database of its own."""
    async with EmbeddedPostgres(data_dir=None, settings=_SETTINGS) as postgres:
        await migrate(postgres.dsn)
        series = [
            await _calls(postgres.dsn, (1_000, 100_000, 1_000_000) if options.is_long else (1_000, 100_000)),
            await _packets(postgres.dsn, (1_000, 100_000)),
            await _snapshot(postgres.dsn, minutes=10 if options.is_long else 1, is_real=options.is_long),
        ]
        async with _database(postgres.dsn, "calls") as sql:
            told = [await sql.fetchval(f"show {name}") for name in ("shared_buffers", "server_version")]
    factors = {f"{s.title}, {what}": factor for s in series for what, factor in s.factors().items()}
    parts = {
        "limit": _LIMIT,
        "worst": max(factors, key=lambda what: factors[what]),
        "factors": {what: round(factor, 4) for what, factor in factors.items()},
        "series": {s.title: _rounded(s) for s in series},
        "shared_buffers": told[0],
        "versions": {**versions(), "postgres": told[1]},
    }
    ratio = max(factors.values())
    lines = _table(series, ratio, parts)
    return Report(
        name="growth",
        ratio=ratio,
        wanted=_LIMIT,
        is_limit=True,
        problems=_problems(series),
        lines=lines,
        parts=parts,
    )


async def _calls(dsn: str, sizes: Sequence[int]) -> Series:
    """Let calls pile up; what packets come for are the newest."""
    costs = {}
    async with _database(dsn, "calls") as sql:
        scene, stored = _Scene(sql), 0
        for size in sizes:
            await sql.execute(_ADD_CALLS, stored + 1, size, _STREAMS, DATA, timeout=600)
            await _settle(sql)
            stored = size
            await scene.hold(_newest(size), next_sequence=2)
            costs[f"{size:,} calls"] = await scene.measure()
    return Series("calls stored", costs)


async def _packets(dsn: str, sizes: Sequence[int]) -> Series:
    """Let one call grow: a flush has as many packets, all of this call."""
    costs = {}
    async with _database(dsn, "packets") as sql:
        scene, stored = _Scene(sql), 1
        await sql.execute(_ADD_CALLS, 1, 1_000, _STREAMS, DATA)
        for size in sizes:
            await sql.execute(_ADD_PACKETS, stored + 1, size, "bulk-000000500", DATA, timeout=600)
            await _settle(sql)
            await scene.hold(["bulk-000000500"], next_sequence=size + 1)
            await scene.flush(1, has_row=True)
            costs[f"{size:,} packets"] = await scene.measure(
                ["packet", "packet and row", "claim"], packets=_ACTIVE
            )
            stored = await sql.fetchval("select max(sequence) from packets")
    return Series("packets in a call", costs)


async def _snapshot(dsn: str, *, minutes: int, is_real: bool) -> Series:
    """Hold a snapshot while calls of 50 packets a second each store what *minutes* bring.

    Such a call writes its row every 1,000 packets. It takes these minutes if it *is_real*, with five flushes
    a second; else the same packets come as fast as they go, ten times as many to a flush.
    """
    costs = {}
    async with _database(dsn, "snapshot") as sql, _database(dsn, "snapshot") as other:
        scene = _Scene(sql)
        await sql.execute(_ADD_CALLS, 1, 1_000, _STREAMS, DATA)
        await _settle(sql)
        await scene.hold(_newest(1_000), next_sequence=2)
        costs["before"] = await scene.measure()
        await other.execute("set idle_in_transaction_session_timeout = 0")
        async with other.transaction(isolation="repeatable_read"):
            await other.fetchval("select count(*) from calls")
            await _load(scene, minutes, flushes=_PER_ROW * 10 if is_real else _PER_ROW, is_real=is_real)
            costs[f"after {minutes} min"] = await scene.measure(is_warm=True)
    return Series("snapshot held", costs)


async def _load(scene: _Scene, minutes: int, *, flushes: int, is_real: bool) -> None:
    """Flush 1,000 packets of each call three times a minute, in so many *flushes*, the last with its row."""
    begin, interval = time.monotonic(), _ROW_INTERVAL / flushes
    for number in range(1, round(minutes * 60 / interval) + 1):
        await scene.flush(_ROW_PACKETS // flushes, has_row=number % flushes == 0)
        if is_real:
            await asyncio.sleep(max(begin + number * interval - time.monotonic(), 0))


def _newest(stored: int) -> list[str]:
    return [f"bulk-{stored - _STEP * i:09d}" for i in range(_ACTIVE)]


@asynccontextmanager
async def _database(dsn: str, name: str) -> AsyncIterator[Connection]:
    """A session of the product's in the database *name*, which is made if need be."""
    sql = await connect(await add_database(dsn, name))
    await sql.execute("set statement_timeout = 0")
    try:
        yield sql
    finally:
        await sql.close()


async def _settle(sql: Connection) -> None:
    for statement in _SETTLE:
        await sql.execute(statement, timeout=600)


def _problems(series: Sequence[Series]) -> list[str]:
    return [
        f"{s.title}, {size}: {cost.images:.3f} full-page images for each {kind}"
        for s in series
        for size, costs in s.costs.items()
        for kind, cost in costs.items()
        if cost.images > _MAX_IMAGES
    ]


def _rounded(series: Series) -> dict[str, Any]:
    return {
        size: {
            kind: {unit: round(value, 3) for unit, value in cost._asdict().items()}
            for kind, cost in costs.items()
        }
        for size, costs in series.costs.items()
    }


def _table(series: Sequence[Series], ratio: float, parts: dict[str, Any]) -> list[str]:
    lines = [
        f"growth: buffers, bytes of WAL and us for a packet or a claim, in statements for {_ACTIVE} of them"
    ]
    for s in series:
        factors = s.factors()
        lines.append(f"{s.title:<20}" + "".join(f"{size:>26}" for size in s.costs) + "    last over first")
        for kind in next(iter(s.costs.values())):
            cells = [costs[kind] for costs in s.costs.values()]
            told = "".join(f"{c.buffers:>10.2f}{c.wal:>9.0f}{c.time:>7.1f}" for c in cells)
            lines.append(
                f"  {kind:<18}{told}{factors[f'{kind}, buffers']:>10.3f}{factors[f'{kind}, wal']:>9.3f}"
            )
    return [
        *lines,
        f"ratio {ratio:.3f}, the worst: {parts['worst']}; up to {_LIMIT:g} is good",
        "measured behind a checkpoint and as many turns that warm up, so that full-page images are over;"
        " without the WAL of the commit",
        f"shared_buffers {parts['shared_buffers']}, packets of {len(DATA)} bytes",
        ", ".join(f"{name} {version}" for name, version in parts["versions"].items()),
    ]
