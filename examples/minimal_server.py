"""The least server: calls in the PostgreSQL of DATABASE_URL, and an AI step that counts."""

import os

from aiohttp import web

from callactors import CallRecord, CallSystem, Done, Outcome, SystemOptions, routes, setup


async def count(call: CallRecord) -> Outcome:
    return Done({"summary": f"{call.packet_count} packets"})


def make_app(dsn: str) -> web.Application:
    app = web.Application()
    setup(app, CallSystem(dsn, count, SystemOptions(node="minimal")))
    app.add_routes(routes())
    return app


if __name__ == "__main__":
    web.run_app(make_app(os.environ["DATABASE_URL"]), host="127.0.0.1", port=8000)
