"""What the tests of the whole system share: a running system, packets, and waiting for what is committed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import asyncpg
from aiohttp import web

from callactors.options import SystemOptions
from callactors.packets import CompleteRequest, Packet
from callactors.processors.contract import CallRecord, Processor
from callactors.retry import Done, Outcome, RetryPolicy
from callactors.routing import Router
from callactors.system import CallSystem
from callactors.web.problems import no_route
from callactors.web.setup import routes, setup

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

OPTIONS = SystemOptions(
    node="test", grace=0.0, policy=RetryPolicy(initial=0.0), is_unsafe_durability_allowed=True
)
COMPLETE = CompleteRequest()


async def done(call: CallRecord) -> Outcome:
    """A processor that succeeds at once."""
    return Done({"packets": call.packet_count})


@asynccontextmanager
async def running(
    dsn: str,
    processor: Processor = done,
    *,
    actor: Any = None,
    router: Router | None = None,
    **options: Any,
) -> AsyncIterator[CallSystem]:
    """A system on *dsn*, without waits unless *options* says so."""
    chosen: dict[str, Any] = {"router": router} | ({} if actor is None else {"actor": actor})
    async with CallSystem(dsn, processor, replace(OPTIONS, **options), **chosen) as system:
        yield system


def make_app(
    dsn: str, processor: Processor = done, *, router: Router | None = None, **options: Any
) -> web.Application:
    """An application with the API on *dsn*, without waits unless *options* says so."""
    app = web.Application()
    setup(app, CallSystem(dsn, processor, replace(OPTIONS, **options), router=router))
    app.add_routes([*routes(), web.route("*", "/{path:.*}", no_route)])
    return app


def packet(sequence: int, data: str = "x", stream: str = "") -> Packet:
    """A packet with *sequence*."""
    return Packet(sequence=sequence, data=data, timestamp=1.0, stream=stream)


async def until(sql: Sql, query: str, wanted: object, *arguments: object) -> None:
    """Return when the first value of *query* is *wanted*, or fail before the test does, which ends nothing."""
    async with asyncio.timeout(50):
        while await sql.fetchval(query, *arguments) != wanted:  # noqa: ASYNC110  # another process commits
            await asyncio.sleep(0.01)


async def until_state(sql: Sql, call_id: str, state: str) -> None:
    """Return when the call is committed in *state*."""
    await until(sql, "select state from calls where call_id = $1", state, call_id)


async def events(sql: Sql, call_id: str) -> list[tuple[int, str, int]]:
    """The call's events in order: version, what it says, attempt."""
    records = await sql.fetch(
        "select version, coalesce(detail->>'phase', to_state) as said, attempt from call_events"
        " where call_id = $1 order by version",
        call_id,
    )
    return [(r["version"], r["said"], r["attempt"]) for r in records]
