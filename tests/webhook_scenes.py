"""What the tests of webhooks share: an endpoint that listens, verifies and answers as it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from callactors.packets import CompleteRequest
from callactors.store.endpoints import create_endpoint
from callactors.system import CallSystem
from callactors.webhooks import WebhookEvent
from tests.scenes import Sql, packet

NOW = CompleteRequest(last_sequence={"": 1})
DELIVERY = """
select d.* from deliveries d join calls c on c.call_no = d.call_no where c.call_id = $1 order by d.version
"""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.told["data"]
        return data

    def verify(self, secret: str, **headers: str) -> Any:
        """Return what the package reads from it, with other *headers* in place of those that came."""
        return Webhook(secret).verify(self.body, {**self.headers, **headers})


Answer: TypeAlias = Callable[[Message], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Receiver:
    """An endpoint on 127.0.0.1; what *answer* returns is its answer to a message."""

    answer: Answer
    messages: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    url: str = ""

    async def get(self) -> Message:
        return await self.messages.get()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        message = Message(dict(request.headers), await request.read())
        self.messages.put_nowait(message)
        return await self.answer(message)


def answering(status: int, **headers: str) -> Answer:
    """Answer so, always."""

    async def answer(_: Message) -> web.StreamResponse:
        return web.Response(
            status=status, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    return answer


async def hang(_: Message) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


@asynccontextmanager
async def receiving(answer: Answer | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer or answering(204))
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    async with TestServer(app, shutdown_timeout=0.0) as server:
        receiver.url = str(server.make_url("/hook"))
        yield receiver


async def make_endpoint(sql: Sql, url: str, *events: WebhookEvent) -> tuple[str, str]:
    """Make an endpoint for all events unless some are named, and return its id and secret."""
    return await create_endpoint(sql, "tester", url, events or tuple(WebhookEvent))


async def end_call(system: CallSystem, call_id: str = "c") -> None:
    """Let a call come and end."""
    await system.accept(call_id, packet(1))
    await system.complete(call_id, NOW)


async def make_due(sql: Sql) -> None:
    """Let the time be over for which deliveries wait or are leased."""
    await sql.execute("update deliveries set due_at = now() where due_at is not null")
    await sql.execute("update webhook_endpoints set paused_until = null")
