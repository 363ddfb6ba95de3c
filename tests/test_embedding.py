"""Calls in applications of others: below prefixes, in sub-apps, twice, and from start to end."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import ClientSession, WSCloseCode, web
from pytest_aiohttp.plugin import AiohttpClient, AiohttpServer

from callactors import CallSystem, Scope, get_calls, routes, setup
from callactors.access import Grant
from callactors.errors import Draining
from callactors.testing import Databases
from tests.scenes import OPTIONS, Sql, done, packet, running, until
from tests.storage import WAITING, locked

SENT = {"sequence": 1, "data": "x", "timestamp": 1}


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def count_resident(request: web.Request) -> web.Response:
    return web.Response(text=str(get_calls(request).resident))


async def test_everything_lies_below_a_prefix(dsn: str, aiohttp_client: AiohttpClient) -> None:
    app = web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS))
    app.add_routes([*routes(prefix="/voice"), web.get("/", hello)])
    client = await aiohttp_client(app)
    assert await (await client.get("/")).text() == "hello"
    assert (await client.post("/v1/call/stream/c", json=SENT)).status == 404
    assert (await client.post("/voice/v1/call/stream/c", json=SENT)).status == 202
    assert (await client.head("/voice/v1/call/c")).status == 200
    assert (await client.get("/voice/v1/call/stream/c")).status == 426  # it is the WebSocket's, also for HEAD
    assert (await client.head("/voice/v1/call/stream/c")).status == 405
    ws = await client.ws_connect("/voice/ws/supervisor")
    await ws.close()
    page = await (await client.get("/voice/")).text()
    links = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert links
    for link in links:
        assert (await client.get(f"/voice/{link}")).status == 200, link


async def test_sub_apps_share_the_calls_of_the_application(dsn: str, aiohttp_client: AiohttpClient) -> None:
    app, api, other = web.Application(), web.Application(), web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS))
    api.add_routes(routes())
    other.add_routes([web.get("/resident", count_resident)])
    app.add_subapp("/voice", api)
    app.add_subapp("/other", other)
    app.add_routes([web.get("/resident", count_resident)])
    client = await aiohttp_client(app)
    assert (await client.post("/voice/v1/call/stream/c", json=SENT)).status == 202
    assert await (await client.get("/other/resident")).text() == "1"
    assert await (await client.get("/resident")).text() == "1"


async def test_two_systems_with_two_databases_and_logins_keep_apart(
    dsn: str, callactors_databases: Databases, aiohttp_client: AiohttpClient
) -> None:
    async def nobody(_: web.Request, __: frozenset[Scope]) -> Grant:
        return Grant("nobody", frozenset())

    app, first, second, third = (web.Application() for _ in range(4))
    with callactors_databases.new() as other_dsn:
        setup(first, CallSystem(dsn, done, OPTIONS))
        setup(second, CallSystem(other_dsn, done, OPTIONS))
        setup(third, CallSystem(other_dsn, done, replace(OPTIONS, node="third")), authorize=nobody)
        for prefix, sub in {"/first": first, "/second": second, "/third": third}.items():
            sub.add_routes(routes())
            app.add_subapp(prefix, sub)
        client = await aiohttp_client(app)
        assert (await client.post("/first/v1/call/stream/c", json=SENT)).status == 202
        assert (await client.get("/first/v1/call/c")).status == 200
        assert (await client.get("/second/v1/call/c")).status == 404
        assert (await client.post("/second/v1/call/stream/c", json=SENT)).status == 202
        assert (await client.get("/third/v1/call/c")).status == 403
        await client.close()


def test_an_application_has_one_system() -> None:
    app = web.Application()
    setup(app, CallSystem("postgresql://", done, OPTIONS))
    with pytest.raises(RuntimeError, match="sub-app of their own"):
        setup(app, CallSystem("postgresql://", done, OPTIONS))


async def test_shutdown_closes_sockets_and_refuses_what_requests_under_way_begin(
    dsn: str, aiohttp_server: AiohttpServer
) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def late(request: web.Request) -> web.Response:
        arrived.set()
        await go_on.wait()
        with pytest.raises(Draining):
            get_calls(request).accept("c", packet(2))
        return web.Response(text="refused")

    app = web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS))
    app.add_routes([*routes(), web.get("/late", late)])
    server = await aiohttp_server(app)
    async with ClientSession(server.make_url("/")) as client, asyncio.TaskGroup() as group:
        ws = await client.ws_connect("/ws/supervisor")
        waiting = group.create_task(client.get("/late"))
        await arrived.wait()
        group.create_task(server.close())
        assert (await ws.receive()).data == WSCloseCode.SERVICE_RESTART
        await ws.close()
        go_on.set()
        assert await (await waiting).text() == "refused"


async def test_clean_up_stores_all_that_was_taken_before_contexts_that_came_first(
    dsn: str, sql: Sql, aiohttp_server: AiohttpServer
) -> None:
    owned, is_draining = list[int](), asyncio.Event()

    async def outlives(_: web.Application) -> AsyncIterator[None]:
        yield
        owned.append(await sql.fetchval("select count(*) from calls where owner is not null"))

    async def note(_: web.Application) -> None:
        is_draining.set()

    app = web.Application()
    app.cleanup_ctx.append(outlives)
    setup(app, CallSystem(dsn, done, OPTIONS))
    app.on_shutdown.append(note)
    app.add_routes(routes())
    server = await aiohttp_server(app)
    async with ClientSession(server.make_url("/")) as client, asyncio.TaskGroup() as group:
        assert (await client.post("/v1/call/stream/c", json=SENT)).status == 202
        async with locked(dsn, "c"):
            sending = group.create_task(client.post("/v1/call/stream/c", json={**SENT, "sequence": 2}))
            await until(sql, f"select count(*) > 0 {WAITING}", True)
            closing = group.create_task(server.close())
            await is_draining.wait()
            assert not sending.done()
        assert (await sending).status == 202
        await closing
    assert await sql.fetchval("select count(*) from packets") == 2
    assert owned == [0]


async def test_a_system_has_no_more_connections_than_the_page_says(dsn: str, sql: Sql) -> None:
    own = "from pg_stat_activity where datname = current_database() and application_name = 'callactors'"
    async with running(dsn, retention=timedelta(days=1)) as calls:
        ids = [f"c{number}" for number in range(100)]
        await asyncio.gather(*(calls.accept(call_id, packet(1)) for call_id in ids))
        await calls.erase("c0", "test")
        await asyncio.gather(*(calls.read(call_id) for call_id in ids[1:]))
        await until(sql, f"select count(*) {own}", 15)
    await until(sql, f"select count(*) {own}", 0)
