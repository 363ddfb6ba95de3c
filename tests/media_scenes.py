"""What the tests of vendors' ways in share: an app, messages of Twilio, and looks at what is stored."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, TypeAlias

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors.access import Scope
from callactors.processors.contract import Processor
from callactors.routing import Router
from callactors.store.api_keys import create_key, revoke_key
from callactors.system import CallSystem
from callactors.web.keys import SYSTEM
from callactors.web.problems import no_route
from callactors.web.setup import routes, setup
from callactors.web.vendor_access import VendorRules
from tests.scenes import OPTIONS, done
from tests.storage import Sql, until, until_true
from tests.vendor_fixtures import JSON_CALLS, PAYLOAD

Client: TypeAlias = "TestClient[web.Request, web.Application]"
Start: TypeAlias = Callable[..., Awaitable[Client]]
Message: TypeAlias = str | bytes | dict[str, Any]

MEDIA: Final = "/v1/media"
BINARY: Final = "/v1/media/binary"


def make_app(
    dsn: str,
    processor: Processor = done,
    *,
    vendors: VendorRules | None = None,
    router: Router | None = None,
    **options: Any,
) -> web.Application:
    """An application with the API on *dsn*; *options* are those of the system."""
    app = web.Application()
    setup(app, CallSystem(dsn, processor, replace(OPTIONS, **options), router=router), vendors=vendors)
    app.add_routes([*routes(), web.route("*", "/{path:.*}", no_route)])
    return app


def start_with(dsn: str, aiohttp_client: AiohttpClient) -> Start:
    """Return what starts an app as a server does: whose connection is lost is not cancelled."""

    async def start(**options: Any) -> Client:
        client: Client = await aiohttp_client(make_app(**{"dsn": dsn, **options}))
        client.server.runner.server.handler_cancellation = False  # type: ignore[union-attr]
        return client

    return start


async def make_key(client: Client, sql: Sql, *scopes: Scope, prefix: str = "") -> str:
    """Make a key that the server knows."""
    text = await create_key(sql, "me", set(scopes), prefix=prefix)
    await client.app[SYSTEM].keys.load()
    return text


async def end_key(client: Client, sql: Sql, key: str) -> None:
    await revoke_key(sql, "me", key.split("_")[1])
    await client.app[SYSTEM].keys.load()


def start(call_id: str = "c", stream: str = "s") -> dict[str, Any]:
    """Twilio's start, the first of a stream's sequence."""
    message = json.loads(json.dumps(JSON_CALLS["twilio"][1]))
    message["streamSid"] = stream
    message["start"] |= {"streamSid": stream, "callSid": call_id}
    return dict(message)


def media(*sequences: int, stream: str = "s", payload: str = PAYLOAD) -> list[dict[str, Any]]:
    """Twilio's media."""
    return [
        {
            "event": "media",
            "sequenceNumber": str(sequence),
            "streamSid": stream,
            "media": {"track": "inbound", "timestamp": str(20 * sequence), "payload": payload},
        }
        for sequence in sequences
    ]


def stop(sequence: int, stream: str = "s") -> dict[str, Any]:
    """Twilio's stop."""
    return {"event": "stop", "sequenceNumber": str(sequence), "streamSid": stream}


async def say(ws: ClientWebSocketResponse, *messages: Message) -> None:
    """Send *messages*."""
    for message in messages:
        if isinstance(message, bytes):
            await ws.send_bytes(message)
        else:
            await ws.send_str(message if isinstance(message, str) else json.dumps(message))


@asynccontextmanager
async def streaming(
    client: "Client | ClientSession", *messages: Message, path: str = MEDIA, **options: Any
) -> AsyncIterator[ClientWebSocketResponse]:
    """Connect and send *messages*."""
    async with client.ws_connect(path, **options) as ws:
        await say(ws, *messages)
        yield ws


async def closed(ws: ClientWebSocketResponse) -> tuple[int, str]:
    """Wait until the server closes, and return the code and the reason."""
    async with asyncio.timeout(10):
        while (message := await ws.receive()).type is not WSMsgType.CLOSE:
            assert message.type is not WSMsgType.CLOSED, "cut, and not closed"
    return message.data, message.extra or ""


def transport_of(ws: ClientWebSocketResponse) -> asyncio.Transport:
    """The client's end of the connection."""
    transport = ws._response.connection.transport  # type: ignore[union-attr]
    assert isinstance(transport, asyncio.Transport)
    return transport


def cut(ws: ClientWebSocketResponse) -> None:
    """Lose the connection."""
    transport_of(ws).abort()


async def stored(sql: Sql, call_id: str = "c") -> list[int]:
    """The sequences of a call's packets, in order."""
    query = "select sequence from packets join calls using (call_no) where call_id = $1 order by 1"
    return [record["sequence"] for record in await sql.fetch(query, call_id)]


async def told(sql: Sql, call_id: str = "c") -> list[str]:
    """What the call's events say, in order."""
    query = (
        "select coalesce(detail->>'phase', detail->>'status', to_state) as said from call_events"
        " where call_id = $1 order by version"
    )
    return [record["said"] for record in await sql.fetch(query, call_id)]


async def end_of(sql: Sql, call_id: str = "c") -> str | None:
    """Why the call has ended."""
    reason: str | None = await sql.fetchval("select end_reason from calls where call_id = $1", call_id)
    return reason


async def until_begun(sql: Sql, call_id: str = "c") -> None:
    """Wait until the call has a packet."""
    query = "select from packets join calls using (call_no) where call_id = $1"
    await until(sql, f"exists ({query})", call_id)


async def until_stored(sql: Sql, count: int) -> None:
    """Wait until there are *count* packets."""
    await until(sql, "count(*) >= $1 from packets", count)


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> str:
    """Wait until a record has *text*, and return that one."""
    await until_true(lambda: text in caplog.text)
    return next(message for message in caplog.messages if text in message)


def counted(messages: Iterable[str], text: str) -> int:
    """How many of *messages* have *text*."""
    return sum(text in message for message in messages)
