"""Who may come in: routes and scopes, this machine without keys, names, origins, limits of a key."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from functools import reduce
from typing import Any, TypeAlias

import pytest
from aiohttp import ClientResponse, WSServerHandshakeError, web
from aiohttp.test_utils import TestClient, make_mocked_request
from multidict import CIMultiDict
from pytest_aiohttp.plugin import AiohttpClient

from callactors.access import EVERYTHING, Grant, Scope
from callactors.errors import Unauthorized
from callactors.settings import Settings
from callactors.store.api_keys import create_key, revoke_key
from callactors.system import CallSystem
from callactors.web import pacing
from callactors.web.guard import Guard, GuardRules
from callactors.web.keys import SYSTEM
from callactors.web.limits import Limits
from callactors.web.problems import no_route
from callactors.web.routes import ROUTES
from callactors.web.setup import routes, setup
from tests.scenes import OPTIONS, done
from tests.storage import Sql, until_true

Client: TypeAlias = "TestClient[web.Request, web.Application]"
PACKET = {"sequence": 1, "data": "x", "timestamp": 1}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def make_app(dsn: str, **options: Any) -> web.Application:
    app = web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS), **options)
    app.add_routes([*routes(), web.route("*", "/{path:.*}", no_route)])
    return app


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn))


async def make_key(client: Client, sql: Sql, *scopes: Scope, prefix: str = "") -> dict[str, str]:
    """Make a key that the server knows, and return the header that brings it."""
    text = await create_key(sql, "me", set(scopes), prefix=prefix)
    await client.app[SYSTEM].keys.load()
    return {"Authorization": f"Bearer {text}"}


async def end_key(client: Client, sql: Sql, headers: Mapping[str, str]) -> None:
    await revoke_key(sql, "me", headers["Authorization"].split("_")[1])
    await client.app[SYSTEM].keys.load()


async def slug(response: ClientResponse) -> tuple[int, str]:
    told = json.loads(await response.text())
    return response.status, told["type"].removeprefix("/problems/")


def url_of(path: str) -> str:
    file = "start.js" if path.startswith("/docs/") else "app.js"
    names = {"{call_id}": "c", "{name}": file, "{vendor}": "twilio", "{token}": "none"}
    return reduce(lambda url, name: url.replace(name, names[name]), names, path)


GUARDED = [route for route in ROUTES if route.opens is not None]


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize("scope", [None, *Scope])
async def test_a_route_opens_to_its_scopes_and_to_no_other(
    client: Client, sql: Sql, route: Any, scope: Scope | None
) -> None:
    headers = await make_key(client, sql, *([scope] if scope else ()))
    response = await client.request(route.method, url_of(route.path), headers=headers)
    if scope in route.opens:
        assert response.status not in (401, 403)
    else:
        assert await slug(response) == (403, "insufficient-scope")
        assert 'scope="' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_without_a_good_key_nothing_opens(client: Client, sql: Sql, route: Any) -> None:
    key = await make_key(client, sql, *Scope)
    await make_key(client, sql, *Scope)
    await end_key(client, sql, key)
    basic, other = {"Authorization": "Basic eDp4"}, {"Authorization": f"{key['Authorization']}x"}
    for headers in ({}, basic, other, {"Authorization": ""}, key):
        response = await client.request(route.method, url_of(route.path), headers=headers)
        assert await slug(response) == (401, "unauthorized"), headers
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("scope", "status"), [(Scope.SUPERVISE, 200), (Scope.ADMIN, 200), (Scope.INGEST, 403)]
)
async def test_metrics_are_for_who_supervises_and_for_who_administers(
    client: Client, sql: Sql, scope: Scope, status: int
) -> None:
    assert (await client.get("/metrics")).status == 200
    key = await make_key(client, sql, scope)
    assert (await client.get("/metrics")).status == 401
    assert (await client.get("/metrics", headers=key)).status == status


@pytest.mark.parametrize("path", [route.path for route in ROUTES if route.opens is None])
async def test_pages_and_probes_need_no_key(client: Client, sql: Sql, path: str) -> None:
    await make_key(client, sql, Scope.ADMIN)
    assert (await client.get(url_of(path))).status == 200


async def test_readiness_tells_its_reasons_only_to_supervisors(client: Client, sql: Sql) -> None:
    assert "resident_calls" in await (await client.get("/ready")).json()
    key = await make_key(client, sql, Scope.SUPERVISE)
    assert await (await client.get("/ready")).json() == {"status": "ok"}
    assert "resident_calls" in await (await client.get("/ready", headers=key)).json()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Host": "localhost"}, 202),
        ({"Host": "LocalHost:80"}, 202),
        ({"Host": "[::1]:80"}, 202),
        ({"Host": "[::1]"}, 202),
        ({"Host": "evil.example"}, 401),
        ({"Host": "127.0.0.1.evil.example"}, 401),
        ({"Host": ""}, 401),
        ({"X-Forwarded-For": "203.0.113.9"}, 401),
        ({"Forwarded": "for=203.0.113.9"}, 401),
    ],
)
async def test_without_keys_only_this_machine_may_ask_by_a_name_of_its_own(
    client: Client, headers: dict[str, str], status: int
) -> None:
    response = await client.post("/v1/call/stream/c", json=PACKET, headers=headers)
    assert response.status == status


async def test_without_keys_another_machine_is_told_to_make_some(client: Client) -> None:
    guard = Guard(GuardRules(), Limits())
    request = make_mocked_request("GET", "/v1/calls", headers={"Host": "localhost"}, app=client.app)
    assert request.remote is None  # as behind a unix socket
    with pytest.raises(Unauthorized, match="there are no keys yet"):
        await guard.admit(request, frozenset({Scope.SUPERVISE}))


async def test_an_insecure_server_lets_everybody_in_until_there_are_keys(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(make_app(dsn, rules=GuardRules(is_insecure=True)))
    headers = {"Host": "calls.example"}
    assert (await client.get("/v1/calls", headers=headers)).status == 200
    await make_key(client, sql, Scope.INGEST)
    assert (await client.get("/v1/calls", headers=headers)).status == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 202),
        ("http://calls.example", 202),
        ("https://calls.example", 202),
        ("https://board.example", 202),
        ("https://evil.example", 403),
        ("https://calls.example.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_pages_of_other_origins_may_not_write(
    dsn: str, aiohttp_client: AiohttpClient, origin: str | None, status: int
) -> None:
    rules = GuardRules(is_insecure=True, origins=frozenset({"https://board.example"}))
    client = await aiohttp_client(make_app(dsn, rules=rules))
    headers = {"Host": "calls.example"} | ({} if origin is None else {"Origin": origin})
    response = await client.post("/v1/call/stream/c", json=PACKET, headers=headers)
    assert response.status == status


@pytest.mark.parametrize("path", ["/ws/supervisor", "/v1/call/stream/c"])
async def test_pages_of_other_origins_may_not_open_a_socket(client: Client, path: str) -> None:
    for origin, status in (("https://evil.example", 403), (f"http://127.0.0.1:{client.port}", 101)):
        response = await client.get(path, headers={**UPGRADE, "Origin": origin})
        assert response.status == status
        response.close()


async def test_a_host_that_is_not_ours_is_misdirected(dsn: str, aiohttp_client: AiohttpClient) -> None:
    rules = GuardRules(is_insecure=True, hosts=frozenset({"calls.example"}))
    client = await aiohttp_client(make_app(dsn, rules=rules))
    assert (await client.get("/v1/calls", headers={"Host": "Calls.Example:443"})).status == 200
    assert await slug(await client.get("/v1/calls")) == (421, "misdirected")


async def test_a_key_may_come_as_a_subprotocol_which_is_not_answered(client: Client, sql: Sql) -> None:
    key = (await make_key(client, sql, Scope.SUPERVISE))["Authorization"].removeprefix("Bearer ")
    async with client.ws_connect("/ws/supervisor", protocols=("callactors.v1", f"bearer.{key}")) as ws:
        assert ws.protocol == "callactors.v1"
    for protocols in ((f"bearer.{key}",), ("callactors.v1", "bearer.nonsense"), ("callactors.v1",)):
        with pytest.raises(WSServerHandshakeError) as caught:
            await client.ws_connect("/ws/supervisor", protocols=protocols)
        assert caught.value.status == 401


@pytest.mark.parametrize("path", ["/ws/supervisor", "/ws/supervisor?snapshot=1", "/v1/call/stream/c"])
async def test_the_end_of_a_key_closes_its_sockets(client: Client, sql: Sql, path: str) -> None:
    key = await make_key(client, sql, *Scope)
    async with client.ws_connect(path, headers=key) as ws:
        await end_key(client, sql, key)
        while not ws.closed:
            await ws.receive()
        assert ws.close_code == 1008


async def test_a_subscribe_does_not_keep_a_socket_open_whose_key_has_ended(client: Client, sql: Sql) -> None:
    key = await make_key(client, sql, Scope.SUPERVISE)
    async with client.ws_connect("/ws/supervisor", headers=key) as ws:
        await end_key(client, sql, key)
        await ws.send_json({"type": "subscribe", "snapshot": True})
        while not ws.closed:
            assert "snapshot" not in str((await ws.receive()).data)
        assert ws.close_code == 1008


async def test_the_end_of_a_key_ends_its_body(client: Client, sql: Sql) -> None:
    key = await make_key(client, sql, Scope.INGEST)

    async def body() -> AsyncIterator[bytes]:
        yield json.dumps(PACKET).encode() + b"\n"
        await until_true(lambda: client.app[SYSTEM].has("c"))
        await end_key(client, sql, key)
        yield b"\n"

    headers = {**key, "Content-Type": "application/x-ndjson"}
    response = await client.post("/v1/call/stream/c", data=body(), headers=headers)
    assert await slug(response) == (401, "unauthorized")


async def test_a_key_with_a_prefix_opens_its_calls_only(client: Client, sql: Sql) -> None:
    mine = await make_key(client, sql, Scope.INGEST, Scope.SUPERVISE, prefix="acme-")
    everybodys = await make_key(client, sql, *Scope)
    for call_id in ("acme-1", "acme-2", "other-1"):
        assert (
            await client.post(f"/v1/call/stream/{call_id}", json=PACKET, headers=everybodys)
        ).status == 202
    assert (await client.get("/v1/call/acme-1", headers=mine)).status == 200
    for path in (
        "/v1/call/other-1",
        "/v1/call/other-9",
        "/v1/calls?q=other",
        "/v1/calls?call_id=acme-1&call_id=other-1",
    ):
        assert await slug(await client.get(path, headers=mine)) == (403, "call-not-allowed"), path
    assert (await client.post("/v1/call/stream/other-1", json=PACKET, headers=mine)).status == 403
    for path in ("/v1/stats", "/metrics"):
        assert (await client.get(path, headers=mine)).status == 403
    for path in ("/v1/calls", "/v1/calls?q=acme-", "/v1/calls?sort=transition", "/v1/calls?sort=call_id"):
        told = await (await client.get(path, headers=mine)).json()
        assert {call["call_id"] for call in told["calls"]} == {"acme-1", "acme-2"}, path


async def test_a_supervisor_with_a_prefix_is_told_of_its_calls_only(client: Client, sql: Sql) -> None:
    mine = await make_key(client, sql, Scope.SUPERVISE, prefix="acme-")
    everybodys = await make_key(client, sql, *Scope)
    assert (await client.get("/ws/supervisor?call_id=other", headers={**UPGRADE, **mine})).status == 403
    for call_id in ("other-1", "acme-1"):
        await client.post(f"/v1/call/stream/{call_id}", json=PACKET, headers=everybodys)
    async with client.ws_connect("/ws/supervisor?snapshot=1", headers=mine) as ws:
        seen = set()
        for call_id in ("other-2", "acme-2"):
            await client.post(f"/v1/call/stream/{call_id}", json=PACKET, headers=everybodys)
        while "acme-2" not in seen:
            told = await ws.receive_json()
            seen |= {call["call_id"] for call in told.get("calls", [told]) if "call_id" in call}
        assert seen == {"acme-1", "acme-2"}
        await ws.send_json({"type": "subscribe", "call_id": ["other-1"]})
        while not ws.closed:
            await ws.receive()
        assert ws.close_code == 1007


async def test_a_key_has_only_so_much_under_way(dsn: str, sql: Sql, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(dsn, limits=Limits(key_busy=2)))
    key, other = await make_key(client, sql, Scope.SUPERVISE), await make_key(client, sql, Scope.SUPERVISE)
    path = "/ws/supervisor"
    async with client.ws_connect(path, headers=key), client.ws_connect(path, headers=key):
        response = await client.get("/v1/calls", headers=key)
        assert await slug(response) == (429, "key-busy")
        assert int(response.headers["Retry-After"]) >= 1
        assert (await client.get("/v1/calls", headers=other)).status == 200

    async def has_room() -> bool:
        return (await client.get("/v1/calls", headers=key)).status == 200

    while not await has_room():  # the server hears of the close
        pass


async def test_a_key_may_begin_only_so_many_calls_a_second(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(make_app(dsn, limits=Limits(key_new_calls=0.001)))
    key = await make_key(client, sql, Scope.INGEST)
    assert (await client.post("/v1/call/stream/a", json=PACKET, headers=key)).status == 202
    assert (await client.post("/v1/call/stream/a", json=PACKET, headers=key)).status == 202
    assert await slug(await client.post("/v1/call/stream/b", json=PACKET, headers=key)) == (429, "call-rate")
    lines = {**key, "Content-Type": "application/x-ndjson"}
    assert (await client.post("/v1/call/stream/b", data=b"", headers=lines)).status == 429
    assert (await client.get("/v1/call/stream/b", headers={**UPGRADE, **key})).status == 429
    assert not await sql.fetchval("select count(*) from calls where call_id = 'b'")


async def test_there_are_only_so_many_supervisors(dsn: str, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(dsn, limits=Limits(supervisors=1)))
    async with client.ws_connect("/ws/supervisor"):
        assert await slug(await client.get("/ws/supervisor", headers=UPGRADE)) == (503, "overloaded")


async def test_an_app_may_bring_its_own_authorisation(dsn: str, aiohttp_client: AiohttpClient) -> None:
    async def authorize(request: web.Request, opens: frozenset[Scope]) -> Grant:
        user = request.headers.get("X-User")
        if user is None:
            raise Unauthorized("log in first")
        return Grant(
            user, EVERYTHING if user == "root" else frozenset(), prefix="" if user == "root" else user
        )

    client = await aiohttp_client(make_app(dsn, authorize=authorize))
    assert await slug(await client.get("/v1/calls")) == (401, "unauthorized")
    assert await slug(await client.get("/v1/calls", headers={"X-User": "guest"})) == (
        403,
        "insufficient-scope",
    )
    assert (await client.get("/v1/calls", headers={"X-User": "root", "Host": "any.example"})).status == 200
    async with client.ws_connect("/ws/supervisor", headers={"X-User": "root"}) as ws:
        await client.app[SYSTEM].keys.load()
        assert not ws.closed


@pytest.mark.parametrize(
    ("forwarded", "wanted"),
    [
        (None, "127.0.0.1"),
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.7, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.7, 10.0.0.3", "198.51.100.7"),
        ("nonsense", "nonsense"),
    ],
)
def test_only_trusted_proxies_speak_for_others(forwarded: str | None, wanted: str) -> None:
    settings = Settings(trusted_proxies="127.0.0.1, 10.0.0.0/8")  # as a variable has it
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = make_mocked_request("GET", "/", headers=headers).clone(remote="127.0.0.1")
    trusting = Guard(GuardRules(proxies=settings.trusted_proxies), Limits())
    assert trusting.client_address(request) == wanted
    assert Guard(GuardRules(), Limits()).client_address(request) == "127.0.0.1"


def test_the_line_that_a_proxy_adds_counts_before_the_clients() -> None:
    headers = CIMultiDict([("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-For", "203.0.113.9")])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote="127.0.0.1")
    rules = GuardRules(proxies=Settings(trusted_proxies="127.0.0.1").trusted_proxies)
    assert Guard(rules, Limits()).client_address(request) == "203.0.113.9"


async def test_refusals_beyond_their_pace_wait_and_nothing_else_does(
    dsn: str, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_WAIT", 1_000.0)
    client = await aiohttp_client(make_app(dsn, limits=Limits(refusals=0.001)))
    assert (await client.get("/v1/call/unknown")).status == 404
    waiting = [
        asyncio.create_task(client.get(path)) for path in ("/v1/call/unknown", "/nowhere", "/v1/calls?x=1")
    ]
    for sequence in (1, 2, 3):
        sent = {**PACKET, "sequence": sequence}
        assert (await client.post("/v1/call/stream/c", json=sent)).status == 202
    assert not [task for task in waiting if task.done()]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
