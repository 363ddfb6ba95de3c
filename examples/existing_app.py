"""Calls in an application that has pages and a login of its own: the API is below /voice, for users."""

import os

from aiohttp import web

from callactors import (
    CallRecord,
    CallSystem,
    Done,
    Grant,
    Outcome,
    Scope,
    SystemOptions,
    get_calls,
    routes,
    setup,
)
from callactors.errors import CallError, Unauthorized

USERS = {"opensesame": "ali"}  # an application has them in its database
SCOPES = frozenset({Scope.INGEST, Scope.SUPERVISE})


async def authorize(request: web.Request, _: frozenset[Scope]) -> Grant:
    """Let users send and watch calls whose ids begin with their name."""
    user = USERS.get(request.headers.get("X-Token", ""))
    if user is None:
        raise Unauthorized("log in first")
    return Grant(user, SCOPES, prefix=f"{user}-")


async def summarize(call: CallRecord) -> Outcome:
    return Done({"summary": f"{call.packet_count} packets"})


async def front_page(_: web.Request) -> web.Response:
    return web.Response(text="the application's own page")


async def hang_up(request: web.Request) -> web.Response:
    """End a call from a page of the application's own."""
    try:
        completed = await get_calls(request).complete(request.match_info["call_id"])
    except CallError as error:
        raise web.HTTPNotFound(text=str(error)) from None
    return web.Response(text=f"the call is {completed.state}")


def make_app(dsn: str) -> web.Application:
    app = web.Application()
    setup(app, CallSystem(dsn, summarize, SystemOptions(node="existing")), authorize=authorize)
    app.add_routes(routes(prefix="/voice"))
    app.add_routes([web.get("/", front_page), web.post("/hang-up/{call_id}", hang_up)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(os.environ["DATABASE_URL"]), host="127.0.0.1", port=8000)
