"""Bodies that come slowly or not at all, and bodies that are compressed."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from pytest_aiohttp.plugin import AiohttpClient

from callactors.system import CallSystem
from callactors.web.limits import Limits
from callactors.web.setup import routes, setup
from tests.scenes import OPTIONS, done
from tests.storage import Sql

Client: TypeAlias = "TestClient[web.Request, web.Application]"
PACKET = {"sequence": 1, "data": "x", "timestamp": 1}
SENT = json.dumps(PACKET).encode()
SOON = 0.05
NEVER = 1_000.0
NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def make_client(dsn: str, aiohttp_client: AiohttpClient) -> Any:
    async def make(**limits: Any) -> Any:
        app = web.Application(client_max_size=10_000)
        setup(app, CallSystem(dsn, done, OPTIONS), limits=Limits(**limits))
        app.add_routes(routes())
        server = TestServer(app)
        await server.start_server(auto_decompress=False)
        return await aiohttp_client(server)

    return make


async def body_that_stops(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    await asyncio.Event().wait()


async def told(response: ClientResponse) -> tuple[int, str]:
    return response.status, json.loads(await response.text())["type"].removeprefix("/problems/")


@pytest.mark.parametrize("path", ["/v1/call/stream/c", "/v1/call/complete/c"])
@pytest.mark.parametrize("pieces", [[b" "], [b"{"], [b'{"seq', b'uence": 1']])
async def test_a_body_that_does_not_come_is_given_up(
    make_client: Any, path: str, pieces: list[bytes]
) -> None:
    client = await make_client(body_timeout=SOON, silence_timeout=NEVER)
    response = await client.post(path, data=body_that_stops(*pieces), headers=JSON)
    assert await told(response) == (408, "request-timeout")
    assert response.headers["Connection"] == "close"


async def test_a_line_that_does_not_end_is_given_up_and_those_before_it_are_stored(
    make_client: Any, sql: Sql
) -> None:
    client = await make_client(body_timeout=SOON, silence_timeout=NEVER)
    body = body_that_stops(SENT + b"\n", b'{"sequence"')
    response = await client.post("/v1/call/stream/c", data=body, headers=NDJSON)
    assert await told(response) == (408, "request-timeout")
    problem = await response.json(content_type=None)
    assert (problem["line"], problem["stored"]) == (2, 1)
    assert await sql.fetchval("select count(*) from packets") == 1


async def test_a_line_in_drips_has_no_more_time_than_in_one_piece(make_client: Any) -> None:
    client = await make_client(body_timeout=SOON, silence_timeout=NEVER)

    async def drips() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(SOON / 10)

    response = await client.post("/v1/call/stream/c", data=drips(), headers=NDJSON)
    assert await told(response) == (408, "request-timeout")


async def test_a_silent_stream_is_given_up_after_the_silence_that_is_allowed(make_client: Any) -> None:
    client = await make_client(body_timeout=NEVER, silence_timeout=SOON)
    body = body_that_stops(SENT + b"\n")
    response = await client.post("/v1/call/stream/c", data=body, headers=NDJSON)
    assert await told(response) == (408, "request-timeout")


async def test_a_stream_may_take_longer_in_all_than_any_of_its_lines(make_client: Any) -> None:
    client = await make_client(body_timeout=SOON, silence_timeout=NEVER)

    async def body() -> AsyncIterator[bytes]:
        for sequence in (1, 2, 3):
            yield json.dumps({**PACKET, "sequence": sequence}).encode() + b"\n"
            await asyncio.sleep(SOON * 1.5)

    response = await client.post("/v1/call/stream/c", data=body(), headers=NDJSON)
    assert (response.status, (await response.json())["packets"]) == (202, 3)


def zipped(encoding: str, data: bytes) -> bytes:
    return gzip.compress(data) if encoding == "gzip" else zlib.compress(data)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("headers", [JSON, NDJSON])
async def test_compressed_bodies_are_taken_only_where_they_are_allowed(
    make_client: Any, encoding: str, headers: dict[str, str]
) -> None:
    sent = {**headers, "Content-Encoding": encoding}
    client = await make_client()
    response = await client.post("/v1/call/stream/c", data=zipped(encoding, SENT), headers=sent)
    assert await told(response) == (415, "unsupported-media-type")
    client = await make_client(is_compression_allowed=True)
    response = await client.post("/v1/call/stream/c", data=zipped(encoding, SENT), headers=sent)
    assert response.status == 202


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "identity, gzip", "nonsense"])
async def test_other_encodings_are_never_taken(make_client: Any, encoding: str) -> None:
    client = await make_client(is_compression_allowed=True)
    headers = {**JSON, "Content-Encoding": encoding}
    response = await client.post("/v1/call/stream/c", data=SENT, headers=headers)
    assert await told(response) == (415, "unsupported-media-type")


@pytest.mark.parametrize("headers", [JSON, NDJSON])
async def test_what_is_not_compressed_as_it_says_is_a_broken_body(
    make_client: Any, headers: dict[str, str]
) -> None:
    client = await make_client(is_compression_allowed=True)
    for body in (SENT, gzip.compress(SENT)[:20], gzip.compress(SENT)[:-9] + b"x" * 9):
        sent = {**headers, "Content-Encoding": "gzip"}
        response = await client.post("/v1/call/stream/c", data=body, headers=sent)
        assert await told(response) == (400, "broken-body"), body


@pytest.mark.parametrize("headers", [JSON, NDJSON])
async def test_a_body_is_inflated_no_further_than_its_limit(
    make_client: Any, headers: dict[str, str]
) -> None:
    client = await make_client(is_compression_allowed=True)
    bomb = gzip.compress(b" " * 50_000_000 if headers is JSON else b"x" * 50_000_000)
    response = await client.post(
        "/v1/call/stream/c", data=bomb, headers={**headers, "Content-Encoding": "gzip"}
    )
    assert await told(response) == (413, "body-too-large")
