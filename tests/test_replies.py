"""The reply to a packet is, byte for byte, aiohttp's own, unless somebody could want to change it."""

import asyncio
import logging
import re

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic_core import to_json
from pytest_aiohttp.plugin import AiohttpClient

from callactors.web.replies import accepted_response, quick_response

PROBLEM = "application/problem+json"
TOLD = {"status": "accepted", "call_id": "ü", "missing_sequences": ((2, 3),)}


async def ours(request: web.Request) -> web.StreamResponse:
    return accepted_response(request, TOLD)


async def ordinary(_: web.Request) -> web.StreamResponse:
    return web.Response(body=to_json(TOLD), status=202, content_type="application/json")


async def ours_refused(request: web.Request) -> web.StreamResponse:
    return quick_response(request, 503, TOLD, PROBLEM, retry_after=7)


async def ordinary_refused(_: web.Request) -> web.StreamResponse:
    response = web.Response(body=to_json(TOLD), status=503, content_type=PROBLEM)
    response.headers["Retry-After"] = "7"
    return response


def make_app(**options: list[Middleware]) -> web.Application:
    app = web.Application(**options)  # type: ignore[arg-type]
    app.add_routes([web.post("/ours", ours), web.post("/ordinary", ordinary)])
    app.add_routes([web.post("/ours-refused", ours_refused), web.post("/ordinary-refused", ordinary_refused)])
    return app


async def ask(port: int | None, request: str) -> bytes:
    """Send *request* up to twice on one connection and return all that comes, with any date alike."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    for _ in range(2):
        writer.write(request.encode())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        length = re.search(rb"Content-Length: (\d+)", head)
        answer += head + (await reader.readexactly(int(length[1])) if length else b"")
    writer.close()
    return re.sub(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", b"Date: then\r\n", answer)


@pytest.mark.parametrize(
    ("suffix", "status"), [("", "202 Accepted"), ("-refused", "503 Service Unavailable")]
)
@pytest.mark.parametrize(
    ("version", "headers", "answers"),
    [
        ("1.1", "", 2),
        ("1.1", "Connection: close\r\n", 1),
        ("1.0", "", 1),
        ("1.0", "Connection: keep-alive\r\n", 2),
    ],
)
async def test_the_reply_is_what_aiohttp_would_have_sent(
    aiohttp_client: AiohttpClient, version: str, headers: str, answers: int, suffix: str, status: str
) -> None:
    client = await aiohttp_client(make_app())
    told = [
        await ask(
            client.port,
            f"POST /{path}{suffix} HTTP/{version}\r\nHost: localhost\r\n{headers}Content-Length: 0\r\n\r\n",
        )
        for path in ("ours", "ordinary")
    ]
    assert told[0] == told[1]
    assert told[0].count(f" {status}\r\n".encode()) == told[0].count(b"Date: then") == answers


@web.middleware
async def sign(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers["X-Signed"] = "yes"
    return response


async def sign_late(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Signed"] = "late"


async def test_what_an_app_adds_to_responses_is_sent(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(middlewares=[sign]))
    assert (await client.post("/ours")).headers["X-Signed"] == "yes"
    app = make_app()
    app.on_response_prepare.append(sign_late)
    client = await aiohttp_client(app)
    assert (await client.post("/ours")).headers["X-Signed"] == "late"
    outer = web.Application(middlewares=[sign])
    outer.add_subapp("/sub", make_app())
    client = await aiohttp_client(outer)
    assert (await client.post("/sub/ours")).headers["X-Signed"] == "yes"


async def test_the_access_log_knows_the_reply(
    aiohttp_client: AiohttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = await aiohttp_client(make_app())
    for path in ("ours", "ordinary"):
        await client.post(f"/{path}")
    told = [record.getMessage() for record in caplog.records if record.name == "aiohttp.access"]
    mine, theirs = (re.search(r'" (\d+ \d+) "', line) for line in told)
    assert mine
    assert theirs
    assert mine[1] == theirs[1]
