"""What webhooks cost a flush: in buffers, bytes of WAL and time for each call that ends in it."""

from collections.abc import Sequence
from typing import Final, cast

from callactors.call import Call
from callactors.facts import Change
from callactors.packets import Packet
from callactors.store.claims import _CLAIM
from callactors.store.connection import Connection, connect
from callactors.store.embedded import EmbeddedPostgres
from callactors.store.endpoints import create_endpoint
from callactors.store.flush import CallChanges, flush
from callactors.store.migrations import migrate
from callactors.store.nodes import LEASE
from callactors.webhooks import WebhookEvent
from tests.benchmarks.load import DATA
from tests.benchmarks.machine import versions
from tests.benchmarks.meter import Cost, Meter
from tests.benchmarks.report import Options, Report

_LIMIT: Final = 1.1
_ME: Final = "me/1"
_CALLS: Final = 64  # in a flush
_TURNS: Final = 50
_ENDPOINTS: Final = (0, 1, 10)
_WITHOUT: Final = "without webhooks"
_READ: Final = "select call_no, call_id, epoch from calls where call_id = any($1)"
_SETTINGS: Final = {"checkpoint_timeout": "1h", "max_wal_size": "16GB"}  # a checkpoint adds full-page images


async def webhooks(options: Options) -> Report:
    """Store a packet of each call and then their ends, with more and more endpoints that want to know."""
    turns = _TURNS * (10 if options.is_long else 1)
    costs: dict[str, dict[str, Cost]] = {}
    async with EmbeddedPostgres(data_dir=None, settings=_SETTINGS) as postgres:
        await migrate(postgres.dsn)
        sql = await connect(postgres.dsn)
        try:
            await sql.execute("alter table call_events disable trigger deliveries_added")
            costs[_WITHOUT] = await _measure(sql, "w", turns)
            await sql.execute("alter table call_events enable trigger deliveries_added")
            for count in _ENDPOINTS:
                while await sql.fetchval("select count(*) from webhook_endpoints") < count:
                    await create_endpoint(sql, "benchmark", "https://x.example/", WebhookEvent)
                costs[f"{count} endpoints"] = await _measure(sql, f"e{count}", turns)
            version = await sql.fetchval("show server_version")
        finally:
            await sql.close()
    base, unused = costs[_WITHOUT]["end"], costs["0 endpoints"]["end"]
    ratio = max(unused.buffers / base.buffers, unused.wal / base.wal)
    return Report(
        name="webhooks",
        ratio=ratio,
        wanted=_LIMIT,
        is_limit=True,
        problems=[],
        lines=[*_table(costs), f"ratio {ratio:.3f}, an end with no endpoint over one without webhooks"],
        parts={
            "costs": {
                arm: {
                    kind: {unit: round(value, 3) for unit, value in cost._asdict().items()}
                    for kind, cost in kinds.items()
                }
                for arm, kinds in costs.items()
            },
            "versions": {**versions(), "postgres": version},
        },
    )


async def _measure(sql: Connection, prefix: str, turns: int) -> dict[str, Cost]:
    """Return what a packet and an end cost, behind as many that warm up."""
    await _run(sql, f"{prefix}-warm", turns)
    return await _run(sql, prefix, turns)


async def _run(sql: Connection, prefix: str, turns: int) -> dict[str, Cost]:
    meter = Meter(sql)
    total = {"packet": Cost(), "end": Cost()}
    for turn in range(turns):
        ids = [f"{prefix}-{turn}-{number}" for number in range(_CALLS)]
        await sql.execute(_CLAIM, _ME, ids, [True] * _CALLS, [], False, LEASE, 3_600.0)
        calls = [(call_no, Call(call_id), epoch) for call_no, call_id, epoch in await sql.fetch(_READ, ids)]
        packet = Packet(sequence=1, data=DATA, timestamp=1.0)
        changes = [(call.accept(packet)[0], call.cancel()) for _, call, _ in calls]
        for kind, those in zip(total, zip(*changes, strict=True), strict=True):
            await _flush(meter, calls, those)
            total[kind] += meter.read()
    return {kind: cost.per(turns * _CALLS) for kind, cost in total.items()}


async def _flush(meter: Meter, calls: Sequence[tuple[int, Call, int]], changes: Sequence[Change]) -> None:
    batch = [
        CallChanges(call_no, call.call_id, epoch, [change])
        for (call_no, call, epoch), change in zip(calls, changes, strict=True)
    ]
    await flush(cast("Connection", meter), _ME, batch)


def _table(costs: dict[str, dict[str, Cost]]) -> list[str]:
    lines = [
        f"webhooks: buffers, bytes of WAL and us for a packet and the end of a call, {_CALLS} to a flush",
        f"{'':<18}" + "".join(f"{kind:>26}" for kind in next(iter(costs.values()))),
    ]
    for arm, kinds in costs.items():
        told = "".join(f"{c.buffers:>10.2f}{c.wal:>9.0f}{c.time:>7.1f}" for c in kinds.values())
        lines.append(f"{arm:<18}{told}")
    return lines
