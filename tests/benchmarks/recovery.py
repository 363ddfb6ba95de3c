"""How soon every waiting call goes on after a kill -9 of the server, and whether each ends once."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import asyncpg

from callactors.store.connection import Connection
from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.machine import one_core_set_apart, versions
from tests.benchmarks.processes import callactors, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.sender import complete, deal, packet, send

_LIMIT: Final = 5.0  # seconds from the start of the process until all are resumed
_POLL_INTERVAL: Final = 0.05
_PATIENCE: Final = 60.0

# The AI service fails at once before the crash, and now and then afterwards, so that both ends are seen.
_BEFORE: Final = {"FLAKY_LATENCY_MAX": "0", "FLAKY_FAILURE_RATE": "1"}
_AFTER: Final = {
    "FLAKY_LATENCY_MAX": "0.01",
    "FLAKY_FAILURE_RATE": "0.3",
    "FLAKY_SEED": "1",
    "RETRY_INITIAL": "0.1",
}

_WAITING: Final = """
select count(*) filter (where state = 'COMPLETED') as in_grace,
    count(*) filter (where state = 'PROCESSING_AI' and not attempt_running) as between_attempts,
    extract(epoch from max(wake_at) - clock_timestamp())::float8 as last_due_in, max(owner) as owner
from calls
"""
_FAILED_ONCE: Final = "select count(*) from calls where state = 'PROCESSING_AI' and not attempt_running"
_RESUMED: Final = "select count(*) from calls where owner <> $1 and epoch > 1"
_ENDED: Final = "select count(*) from calls where state in ('ARCHIVED', 'FAILED')"
_LAST_STEP: Final = """
select extract(epoch from max(first))::float8 from (
    select min(at) as first from call_events where at > to_timestamp($1) group by call_no
) steps
"""
_AUDIT: Final = """
select (select count(*) from packets) as packets,
    (select count(*) from calls where state = 'ARCHIVED') as archived,
    (select count(*) from calls where state = 'FAILED') as failed,
    (select count(*) from call_events where kind = 'transition'
        and to_state in ('ARCHIVED', 'FAILED')) as ends,
    (select count(*) from calls c where version <> (
        select count(*) from call_events e where e.call_no = c.call_no
    )) as with_holes,
    (select count(*) from calls where epoch <> 2) as claimed_otherwise
"""


class _Waiting(NamedTuple):
    """Calls as the crash found them; `last_due_in` in seconds."""

    in_grace: int
    between_attempts: int
    last_due_in: float
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """Seconds from the start of the process until it listens, and until the last call is claimed, has stepped
    on, and has ended.
    """

    listens: float
    resumed: float
    stepped: float
    ended: float


async def recovery(options: Options) -> Report:
    """Let calls wait, half in grace and half between attempts, and fall due while the server is dead."""
    calls, wait = (10_000, 20.0) if options.is_long else (1_000, 5.0)
    with one_core_set_apart() as core:
        async with worn_postgres() as postgres:
            connection = await asyncpg.connect(postgres.dsn)
            try:
                waiting = await _crash(connection, postgres.dsn, core, calls, wait)
                await asyncio.sleep(max(waiting.last_due_in, 0) + _POLL_INTERVAL)
                times = await _restart(connection, postgres.dsn, core, calls, waiting.owner)
                audit = dict(await connection.fetchrow(_AUDIT) or {})
            finally:
                await connection.close()
    return Report(
        name="recovery",
        ratio=_LIMIT / times.resumed,
        wanted=1.0,
        problems=_problems(calls, waiting, audit),
        lines=_table(calls, waiting, times, audit),
        parts={
            "calls": calls,
            "waiting": waiting._asdict(),
            "seconds": {name: round(value, 3) for name, value in asdict(times).items()},
            "limit_seconds": _LIMIT,
            "audit": audit,
            "versions": versions(),
        },
    )


async def _crash(connection: Connection, dsn: str, core: int, calls: int, wait: float) -> _Waiting:
    """Make *calls* that wait *wait* seconds, kill the server, and return what is stored."""
    env = _env(dsn, _BEFORE | {"GRACE": str(wait), "RETRY_INITIAL": str(wait)})
    async with serving(callactors(), core, env, exit_code=-signal.SIGKILL) as server:
        await send(server.port, deal([packet(f"call-{number}") for number in range(calls)]))
        # A call whose sender tells that nothing is missing has no grace.
        completes = [complete(f"call-{n}", last_sequence={"": 1} if n % 2 else {}) for n in range(calls)]
        await send(server.port, deal(completes))
        await _until(connection, calls // 2, _FAILED_ONCE, patience=wait / 2)
        os.kill(server.pid, signal.SIGKILL)
    return _Waiting(**dict(await connection.fetchrow(_WAITING) or {}))


async def _restart(connection: Connection, dsn: str, core: int, calls: int, dead: str) -> _Times:
    """Start a server in place of the one that is *dead*, and watch the calls from outside."""
    begin = time.time()

    async def watch() -> tuple[float, float]:
        resumed = await _until(connection, calls, _RESUMED, dead)
        await _until(connection, calls, _ENDED)
        return resumed, await connection.fetchval(_LAST_STEP, begin)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        async with serving(callactors(), core, _env(dsn, _AFTER)):
            listens = time.time()
            resumed, stepped = await watching
            ended = await connection.fetchval(
                "select extract(epoch from max(finished_at))::float8 from calls"
            )
    return _Times(
        listens=listens - begin, resumed=resumed - begin, stepped=stepped - begin, ended=ended - begin
    )


async def _until(
    connection: Connection, calls: int, sql: str, *arguments: object, patience: float = _PATIENCE
) -> float:
    """Return when *sql* first counted *calls*, or when *patience* was over: the audit tells what is lost."""
    until = time.time() + patience
    while True:
        counted, now = await connection.fetchval(sql, *arguments), time.time()
        if counted >= calls or now > until:
            return now
        await asyncio.sleep(_POLL_INTERVAL)


def _env(dsn: str, settings: Mapping[str, str]) -> dict[str, str]:
    named = {"NODE": "recovery", "FLAKY_LATENCY_MIN": "0", **settings}
    return {f"CALLACTORS_{name}": value for name, value in named.items()} | {"DATABASE_URL": dsn}


def _problems(calls: int, waiting: _Waiting, audit: Mapping[str, Any]) -> list[str]:
    half = calls // 2
    problems = []
    if (waiting.in_grace, waiting.between_attempts) != (half, half):
        problems.append(
            f"{waiting.in_grace} calls were in grace, {waiting.between_attempts} between attempts, not {half}"
        )
    wanted = {"packets": calls, "ends": calls, "with_holes": 0, "claimed_otherwise": 0}
    wrong = {name: audit[name] for name, number in wanted.items() if audit[name] != number}
    if wrong or audit["archived"] + audit["failed"] != calls:
        problems.append(f"not every call was claimed once more and ended once: {dict(audit)}")
    return problems


def _table(calls: int, waiting: _Waiting, times: _Times, audit: Mapping[str, Any]) -> list[str]:
    return [
        f"recovery: kill -9 with {waiting.in_grace:,} calls in grace and {waiting.between_attempts:,}"
        f" between attempts, all due when the server is back",
        "seconds from the start of the process until",
        f"{'  it listens':<40}{times.listens:>8.2f}",
        f"{f'  every call is resumed (at most {_LIMIT:g})':<40}{times.resumed:>8.2f},"
        f" {times.resumed - times.listens:.2f} after it listens",
        f"{'  every call has made its first step':<40}{times.stepped:>8.2f}",
        f"{'  every call has ended':<40}{times.ended:>8.2f}",
        f"{audit['archived']:,} archived and {audit['failed']:,} failed of {calls:,}, each once:"
        f" {audit['ends']:,} ends, {audit['packets']:,} packets",
        ", ".join(f"{name} {version}" for name, version in versions().items()),
    ]
