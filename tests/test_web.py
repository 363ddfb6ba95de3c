"""The front: problem details, media types, sub-apps, and supervisors' sockets, in process."""

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMsgType, web
from pytest_aiohttp.plugin import AiohttpClient

from callactors.errors import CallactorsError, CallError, InputError, Unavailable
from callactors.store.connection import reading
from callactors.store.events import Cursor, Position
from callactors.system import CallSystem
from callactors.web.keys import SYSTEM
from callactors.web.problems import PROBLEMS, no_route
from callactors.web.setup import routes, setup
from tests.scenes import OPTIONS, done
from tests.storage import Sql

SENT = {"sequence": 1, "data": "x", "timestamp": 1}


def make_app(dsn: str) -> web.Application:
    app = web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS))
    app.add_routes([*routes(), web.route("*", "/{path:.*}", no_route)])
    return app


def leaves(base: type[CallactorsError]) -> Iterator[type[CallactorsError]]:
    if not base.__subclasses__():
        yield base
    for child in base.__subclasses__():
        yield from leaves(child)


@pytest.mark.parametrize("base", [InputError, CallError, Unavailable])
def test_every_error_that_a_client_may_meet_has_its_problem(base: type[CallactorsError]) -> None:
    assert set(leaves(base)) <= PROBLEMS.keys()


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("PUT", "/v1/call/stream/c", 405, "method-not-allowed"),
        ("GET", "/v1/call/stream/c", 426, "upgrade-required"),
        ("GET", "/v1/call/stream/events", 426, "upgrade-required"),
        ("GET", "/v1/call/c", 404, "unknown-call"),
        ("GET", "/v1/call/a%00b", 422, "invalid-call-id"),
        ("POST", "/v1/call/complete/-c", 422, "invalid-call-id"),
        ("POST", "/v1/call/complete/c", 404, "unknown-call"),
        ("GET", "/ws/supervisor?since=%20", 422, "validation"),
    ],
)
async def test_errors_are_problem_details(
    dsn: str, aiohttp_client: AiohttpClient, method: str, path: str, status: int, slug: str
) -> None:
    client = await aiohttp_client(make_app(dsn))
    response = await client.request(method, path)
    told = json.loads(await response.text())
    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert (told["status"], told["type"]) == (status, f"/problems/{slug}")


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=UTF-8", 202),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
async def test_only_json_in_utf8_is_taken(
    dsn: str, aiohttp_client: AiohttpClient, media_type: str, status: int
) -> None:
    client = await aiohttp_client(make_app(dsn))
    headers = {"Content-Type": media_type}
    response = await client.post("/v1/call/stream/c", data=json.dumps(SENT), headers=headers)
    assert response.status == status


async def test_a_body_over_the_limit_is_refused(dsn: str, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(dsn))
    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/call/stream/c", data=io.BytesIO(b" " * 2_000_000), headers=headers)
    assert (response.status, (await response.json(content_type=None))["type"]) == (
        413,
        "/problems/body-too-large",
    )


async def test_routes_work_in_a_sub_app(dsn: str, aiohttp_client: AiohttpClient) -> None:
    app, sub = web.Application(), web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS))
    sub.add_routes(routes())
    app.add_subapp("/voice", sub)
    client = await aiohttp_client(app)
    assert (await client.post("/voice/v1/call/stream/c", json=SENT)).status == 202
    assert (await client.get("/voice/v1/call/c")).status == 200
    assert (await client.get("/voice/")).status == 200


async def test_health_ready_and_the_first_page_answer(dsn: str, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(dsn))
    assert (await (await client.get("/health")).json()) == {"status": "ok"}
    assert (await (await client.get("/ready")).json())["status"] == "ok"
    assert "callactors" in await (await client.get("/")).text()


async def receive(ws: ClientWebSocketResponse, wanted: int) -> list[dict[str, Any]]:
    return [json.loads((await ws.receive()).data) for _ in range(wanted)]


async def test_a_supervisor_sees_each_transition_and_resumes(dsn: str, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(dsn))
    async with client.ws_connect("/ws/supervisor") as ws:
        await client.post("/v1/call/stream/c", json=SENT)
        await client.post("/v1/call/complete/c", json={"last_sequence": {"": 1}})
        told = await receive(ws, 4)
    assert [event["state"] for event in told] == ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "ARCHIVED"]
    async with client.ws_connect("/ws/supervisor", params={"since": told[1]["cursor"]}) as ws:
        assert await receive(ws, 2) == told[2:]
        await client.post("/v1/call/stream/d", json=SENT)
        (new,) = await receive(ws, 1)
        assert (new["call_id"], new["from"]) == ("d", None)


async def test_a_cursor_of_another_log_is_told_as_a_gap(dsn: str, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(dsn))
    other = "MTIzLzEvMQ"  # 123/1/1
    async with client.ws_connect("/ws/supervisor", params={"since": other}) as ws:
        (gap,) = await receive(ws, 1)
        assert (gap["type"], gap["reason"]) == ("gap", "unknown-log")
        await client.post("/v1/call/stream/c", json=SENT)
        (event,) = await receive(ws, 1)
        assert event["state"] == "IN_PROGRESS"


async def test_an_event_that_a_client_has_seen_elsewhere_is_not_told_again(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(make_app(dsn))
    system = client.app[SYSTEM]
    async with sql.transaction():
        await sql.execute("select pg_current_xact_id()")  # from here on this server's feed stands still
        await client.post("/v1/call/stream/c", json=SENT)
        async with reading(system._pool) as other:
            [(xid, event_id)] = await other.fetch("select xid::text::int8, event_id from call_events")
        seen = Cursor(system.feed.cursor.log_id, Position(xid, event_id))
        ws = await client.ws_connect("/ws/supervisor", params={"since": str(seen)})
    await client.post("/v1/call/stream/d", json=SENT)
    (event,) = await receive(ws, 1)
    assert event["call_id"] == "d"


async def test_supervisors_are_closed_when_the_server_drains(dsn: str, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(dsn))
    async with client.ws_connect("/ws/supervisor") as ws:
        closing = asyncio.create_task(client.server.close())
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, WSCloseCode.SERVICE_RESTART)
    await closing
