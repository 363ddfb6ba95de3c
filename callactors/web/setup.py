"""How the system and its routes get into an aiohttp application."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from callactors.system import CallSystem
from callactors.web import calls, dashboard, health, ingest, ingest_socket, supervisor
from callactors.web.keys import SYSTEM


def setup(app: web.Application, system: AbstractAsyncContextManager[CallSystem]) -> None:
    """Give *system* the lifetime of *app*: it starts with the app, and drains behind the last handler.

    Call it on the root application; sub-apps carry routes only.
    """

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        async with system as started:
            app[SYSTEM] = started
            yield

    app.cleanup_ctx.append(lifetime)
    app.on_shutdown.append(_drain)


def routes() -> list[web.RouteDef]:
    """Return the routes of the API."""
    return [
        web.post("/v1/call/stream/{call_id}", ingest.stream),
        web.get("/v1/call/stream/{call_id}", ingest_socket.stream_socket, allow_head=False),
        web.post("/v1/call/complete/{call_id}", ingest.complete),
        web.get("/v1/calls", calls.list_calls),
        web.get("/v1/call/{call_id}", calls.call),
        web.get("/v1/call/{call_id}/events", calls.events),
        web.get("/v1/call/{call_id}/packets", calls.packets),
        web.get("/v1/stats", calls.stats),
        web.get("/ws/supervisor", supervisor.supervisor),
        web.get("/health", health.health),
        web.get("/ready", health.ready),
        web.get("/", dashboard.page),
        web.get("/dashboard/{name}", dashboard.file),
    ]


async def _drain(app: web.Application) -> None:
    app[SYSTEM].drain()
