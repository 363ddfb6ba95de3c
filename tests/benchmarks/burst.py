"""How thousands of calls that are completed at once end, beside packets of others, and over a kill -9."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from callactors.store.connection import Connection
from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.honest import Honest
from tests.benchmarks.load import Result
from tests.benchmarks.machine import one_core_set_apart, versions
from tests.benchmarks.measured import read_report
from tests.benchmarks.processes import Server, callactors, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.sender import complete, deal, packet, pour, send

_CALLS: Final = 2_000
_MANY_CALLS: Final = 10_000
_LATENCY: Final = 0.1
_AT_ONCE: Final = 200
_GRACE: Final = 1.0
_TIMES_LIMIT: Final = 1.5
_LAG_LIMIT: Final = 50.0  # ms, the p99
_LATENCY_LIMIT: Final = 2.0  # the p99 of packets over its quiet value
_RESUME_LIMIT: Final = 5.0
_RATE: Final = 500.0  # packets a second that come meanwhile
_WARM_UP: Final = 1.0
_POLL_INTERVAL: Final = 0.05
_PATIENCE: Final = 60.0
_CONNECTIONS: Final = 16  # over which the completes come

_SETTINGS: Final = {
    "GRACE": str(_GRACE),
    "AI_CONCURRENCY": str(_AT_ONCE),
    "FLAKY_LATENCY_MIN": str(_LATENCY),
    "FLAKY_LATENCY_MAX": str(_LATENCY),
    "FLAKY_FAILURE_RATE": "0",
    "RETRY_INITIAL": "0.1",
    "NODE": "burst",
}
_ENDED: Final = """
select count(*), extract(epoch from max(finished_at))::float8 from calls
where call_id like $1 and state = 'ARCHIVED'
"""
_OWNER: Final = "select owner from calls where owner is not null limit 1"
_LEFT: Final = """
select count(*) from calls where call_id like $1 and owner = $2 and finished_at is null
"""
_AUDIT: Final = """
select (select count(*) from calls where state = 'ARCHIVED' and call_id like $1) as archived,
    (select count(*) from call_events where call_id like $1 and kind = 'transition'
        and to_state in ('ARCHIVED', 'FAILED')) as ends,
    (select count(*) from calls c where call_id like $1 and version <> (
        select count(*) from call_events e where e.call_no = c.call_no
    )) as with_holes
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Burst:
    """Seconds from the first complete until all were sent and all calls had ended; lags of the loop in ms."""

    sent: float
    ended: float
    lags: Mapping[str, float]
    quiet: Result
    beside: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crash:
    """Calls that had not ended at the kill; seconds from the start of the next process until all went on."""

    left: int
    resumed: float
    ended: float


async def burst(options: Options) -> Report:
    """Complete all calls at once, with packets of others beside; then again, with a kill in the middle."""
    calls = _MANY_CALLS if options.is_long else _CALLS
    with one_core_set_apart() as core:
        async with worn_postgres() as postgres:
            connection = await asyncpg.connect(postgres.dsn)
            try:
                found = await _measure(connection, postgres.dsn, core, calls)
                crash = await _kill(connection, postgres.dsn, core, calls)
                audit = dict(await connection.fetchrow(_AUDIT, "burst-%") or {})
            finally:
                await connection.close()
    ideal = _ideal(calls)
    figures = {
        "ended": (found.ended, _TIMES_LIMIT * ideal),
        "loop lag p99": (found.lags["p99"], _LAG_LIMIT),
        "packets p99": (found.beside.p99, _LATENCY_LIMIT * found.quiet.p99),
        "resumed": (crash.resumed, _RESUME_LIMIT),
    }
    parts: dict[str, Any] = {
        "calls": calls,
        "figures": {name: [round(value, 3) for value in pair] for name, pair in figures.items()},
        "lags": found.lags,
        "sent_after": round(found.sent, 3),
        "left_at_kill": crash.left,
        "ended_after_kill": round(crash.ended, 3),
        "audit": audit,
        "versions": versions(),
    }
    return Report(
        name="burst",
        ratio=max(value / limit for value, limit in figures.values()),
        wanted=1.0,
        is_limit=True,
        problems=_problems(calls, audit),
        lines=_table(calls, found, crash, parts),
        parts=parts,
    )


def _ideal(calls: int) -> float:
    return _GRACE + calls * _LATENCY / _AT_ONCE


async def _measure(connection: Connection, dsn: str, core: int, calls: int) -> _Burst:
    async with _measured(dsn, core) as (server, path):
        await send(server.port, deal([packet(f"burst-a{number}") for number in range(calls)], 16))
        honest = Honest(server, rate=_RATE)
        seconds = _TIMES_LIMIT * _ideal(calls)
        quiet = await honest.send(seconds, warm_up=_WARM_UP)
        sending = asyncio.create_task(honest.send(seconds, warm_up=_WARM_UP))
        await asyncio.sleep(_WARM_UP)
        os.kill(server.pid, signal.SIGUSR1)
        begin = time.time()
        await _complete(server, "burst-a", calls)
        sent = time.time()
        ended = await _until_ended(connection, "burst-a%", calls)
        os.kill(server.pid, signal.SIGUSR2)
        beside = await sending
        [report] = await read_report(path, 1)
    return _Burst(sent=sent - begin, ended=ended - begin, lags=report["lags"], quiet=quiet, beside=beside)


async def _kill(connection: Connection, dsn: str, core: int, calls: int) -> _Crash:
    env = _env(dsn)
    async with serving(callactors(), core, env, exit_code=-signal.SIGKILL) as server:
        await send(server.port, deal([packet(f"burst-b{number}") for number in range(calls)], 16))
        await _complete(server, "burst-b", calls)
        await _until_ended(connection, "burst-b%", calls // 3)
        os.kill(server.pid, signal.SIGKILL)
    owner = await connection.fetchval(_OWNER)
    left = await connection.fetchval(_LEFT, "burst-b%", owner)
    begin = time.time()
    async with serving(callactors(), core, env):
        resumed = await _until_resumed(connection, "burst-b%", owner)
        ended = await _until_ended(connection, "burst-b%", calls)
    return _Crash(left=left, resumed=resumed - begin, ended=ended - begin)


async def _complete(server: Server, prefix: str, calls: int) -> None:
    requests = [complete(f"{prefix}{number}") for number in range(calls)]
    await pour(server.port, deal(requests, _CONNECTIONS))


async def _until_ended(connection: Connection, pattern: str, calls: int) -> float:
    """Return when the last of *calls* ended, by the clock that the database shares with us."""
    until = time.time() + _PATIENCE
    while True:
        counted, last = await connection.fetchrow(_ENDED, pattern) or (0, None)
        if counted >= calls or time.time() > until:
            return float(last or time.time())
        await asyncio.sleep(_POLL_INTERVAL)


async def _until_resumed(connection: Connection, pattern: str, dead: str) -> float:
    """Return when the server that is *dead* no longer owned any call that has not ended."""
    until = time.time() + _PATIENCE
    while True:
        left, now = await connection.fetchval(_LEFT, pattern, dead), time.time()
        if not left or now > until:
            return now
        await asyncio.sleep(_POLL_INTERVAL)


@asynccontextmanager
async def _measured(dsn: str, core: int) -> AsyncIterator[tuple[Server, Path]]:
    command = ("-m", "tests.benchmarks.measured", "serve", "--port", "0")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report"
        async with serving(command, core, {**_env(dsn), "MEASURED_REPORT": str(path)}) as server:
            path.touch()
            yield server, path


def _env(dsn: str) -> dict[str, str]:
    return {f"CALLACTORS_{name}": value for name, value in _SETTINGS.items()} | {"DATABASE_URL": dsn}


def _problems(calls: int, audit: Mapping[str, Any]) -> list[str]:
    wanted = {"archived": 2 * calls, "ends": 2 * calls, "with_holes": 0}
    wrong = {name: audit[name] for name, number in wanted.items() if audit[name] != number}
    return [f"not every call has ended once: {wrong}"] if wrong else []


def _table(calls: int, found: _Burst, crash: _Crash, parts: Mapping[str, Any]) -> list[str]:
    ideal, quiet, beside, lags = _ideal(calls), found.quiet, found.beside, found.lags
    audit, most = parts["audit"], parts["figures"]["packets p99"][1]
    return [
        f"burst: {calls:,} calls completed at once over {_CONNECTIONS} connections, a provider of"
        f" {_LATENCY:g} s, asked by up to {_AT_ONCE}, beside {_RATE:g} packets a second",
        f"all completes answered after {found.sent:.2f} s, all calls ended after {found.ended:.2f} s: that is"
        f" {found.ended / ideal:.2f} times what grace and provider take; up to {_TIMES_LIMIT:g} is good",
        f"loop lag p50, p99, max {lags['p50']:.1f}, {lags['p99']:.1f}, {lags['max']:.1f} ms;"
        f" p99 up to {_LAG_LIMIT:g} is good",
        f"packets p50, p99 {quiet.p50:.2f}, {quiet.p99:.2f} ms alone, {beside.p50:.2f}, {beside.p99:.2f} ms"
        f" beside; p99 up to {most:.2f} is good; the server was busy {quiet.busy:.2f}, {beside.busy:.2f}",
        f"kill -9 with {crash.left:,} left: all go on {crash.resumed:.2f} s after the start of the process,"
        f" up to {_RESUME_LIMIT:g} is good, and have ended after {crash.ended:.2f} s",
        f"{audit['archived']:,} of {2 * calls:,} archived, {audit['ends']:,} ends",
        ", ".join(f"{name} {version}" for name, version in parts["versions"].items()),
    ]
