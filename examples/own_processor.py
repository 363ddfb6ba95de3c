"""An AI step of one's own: what was said goes to a service, which may be busy, broken, or right."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession, web

from callactors import (
    CallRecord,
    CallSystem,
    Done,
    GiveUp,
    Outcome,
    PacketKind,
    Retry,
    SystemOptions,
    routes,
    setup,
)


class Summarizer:
    """Asks the service at *url*. What it raises, when nobody answers there, is a Retry too."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self._url, self._session = url, session

    async def __call__(self, call: CallRecord) -> Outcome:
        said = [packet.data async for packet in call.packets() if packet.kind is PacketKind.TEXT]
        if not said:
            return GiveUp("nothing was said")
        key = {"Idempotency-Key": call.idempotency_key}  # the same in each attempt: the work is done once
        async with self._session.post(self._url, json={"lines": said}, headers=key) as response:
            if response.status == 200:
                return Done(await response.json())
            if response.status in (429, 503):
                return Retry("the service is busy", after=float(response.headers.get("Retry-After", 1)))
            reason = f"the service answered {response.status}"
            return Retry(reason) if response.status >= 500 else GiveUp(reason)


@asynccontextmanager
async def make_system(dsn: str, url: str) -> AsyncIterator[CallSystem]:
    async with ClientSession() as session:  # which outlives the calls
        summarizer = Summarizer(url, session)
        async with CallSystem(dsn, summarizer, SystemOptions(node="summaries")) as calls:
            yield calls


def make_app(dsn: str, url: str) -> web.Application:
    app = web.Application()
    setup(app, make_system(dsn, url))
    app.add_routes(routes())
    return app


if __name__ == "__main__":
    web.run_app(make_app(os.environ["DATABASE_URL"], os.environ["SERVICE_URL"]), host="127.0.0.1", port=8000)
