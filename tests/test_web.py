"""The front: problem details, media types, sub-apps, and supervisors' sockets, in process."""

import io
import json
from collections.abc import Iterator

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from callactors.errors import CallactorsError, CallError, InputError, Unavailable
from callactors.system import CallSystem
from callactors.web.problems import PROBLEMS
from callactors.web.setup import routes, setup
from tests.scenes import OPTIONS, done, make_app

SENT = {"sequence": 1, "data": "x", "timestamp": 1}


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
