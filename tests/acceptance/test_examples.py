"""The examples do what they say: the clients also while the server is killed."""

import asyncio
import runpy
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSCloseCode, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient, AiohttpServer

from callactors.store.embedded import EmbeddedPostgres
from tests.acceptance.fixtures import Connect, Serve
from tests.acceptance.history import Sql
from tests.acceptance.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCS = EXAMPLES.parent / "docs" / "embedding.md"
LINES = 4_000
SENT = {"sequence": 1, "data": "good day", "timestamp": 1, "kind": "text"}


@pytest.fixture
async def durable_dsn() -> AsyncIterator[str]:
    """A database that keeps what it has committed: the examples take no other."""
    async with EmbeddedPostgres(data_dir=None) as postgres:
        yield postgres.dsn


def make_app(name: str, *arguments: str) -> web.Application:
    """The application of an example."""
    made: web.Application = runpy.run_path(str(EXAMPLES / name))["make_app"](*arguments)
    return made


async def until_ended(client: "TestClient[web.Request, web.Application]", path: str, **how: Any) -> Any:
    """What is told of a call once its AI step is over."""
    told: dict[str, Any] = {}

    async def has_ended() -> bool:
        told.update(await (await client.get(path, **how)).json())
        return told["state"] in ("ARCHIVED", "FAILED")

    await eventually(has_ended)
    return told


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_can_be_found(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60
    assert f"(../examples/{path.name})" in DOCS.read_text()


async def test_the_minimal_server_takes_a_call_to_its_end(
    durable_dsn: str, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(make_app("minimal_server.py", durable_dsn))
    assert (await client.post("/v1/call/stream/c", json=SENT)).status == 202
    assert (await client.post("/v1/call/complete/c")).status == 202
    assert (await until_ended(client, "/v1/call/c"))["result"] == {"summary": "1 packets"}
    assert (await client.get("/")).status == 200


async def test_the_existing_app_keeps_its_pages_and_its_login(
    durable_dsn: str, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(make_app("existing_app.py", durable_dsn))
    assert await (await client.get("/")).text() == "the application's own page"
    stream, ali = "/voice/v1/call/stream/", {"X-Token": "opensesame"}
    assert (await client.post(stream + "ali-1", json=SENT)).status == 401
    assert (await client.post(stream + "eve-1", json=SENT, headers=ali)).status == 403
    assert (await client.post(stream + "ali-1", json=SENT, headers=ali)).status == 202
    assert await (await client.post("/hang-up/ali-1")).text() == "the call is COMPLETED"
    assert (await client.post("/hang-up/ali-2")).status == 404
    told = await until_ended(client, "/voice/v1/call/ali-1", headers=ali)
    assert told["result"] == {"summary": "1 packets"}


async def test_the_own_processor_asks_until_the_service_is_free(
    durable_dsn: str, aiohttp_client: AiohttpClient, aiohttp_server: AiohttpServer
) -> None:
    keys = list[str]()

    async def summarize(request: web.Request) -> web.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            return web.Response(status=503, headers={"Retry-After": "0"})
        if len(keys) == 2:
            return web.Response(status=500)
        return web.json_response({"summary": " and ".join((await request.json())["lines"])})

    service = web.Application()
    service.add_routes([web.post("/", summarize)])
    url = str((await aiohttp_server(service)).make_url("/"))
    client = await aiohttp_client(make_app("own_processor.py", durable_dsn, url))
    for call_id, kind in (("c", "text"), ("silent", "media")):
        assert (await client.post(f"/v1/call/stream/{call_id}", json={**SENT, "kind": kind})).status == 202
        assert (await client.post(f"/v1/call/complete/{call_id}")).status == 202
    told = await until_ended(client, "/v1/call/c")
    assert (told["state"], told["result"], told["attempt"]) == ("ARCHIVED", {"summary": "good day"}, 3)
    assert keys == ["c:1"] * 3
    silent = await until_ended(client, "/v1/call/silent")
    assert (silent["state"], silent["last_error"]["reason"]) == ("FAILED", "nothing was said")


async def test_a_chat_room_tells_each_member_what_is_said_in_it(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app("chat_rooms.py"))
    ali, eve, other = [await client.ws_connect(f"/ws/{room}") for room in ("tea", "tea", "coffee")]
    await eve.send_str("hello")
    assert await eve.receive_str() == "hello"  # she has joined; so has ali, who came before
    assert await ali.receive_str() == "hello"
    await ali.close()
    for word in ("are you there?", "no"):
        await eve.send_str(word)
        assert await eve.receive_str() == word
    await other.send_str("nobody here")
    assert await other.receive_str() == "nobody here"
    assert await eve.close(code=WSCloseCode.OK)


async def test_the_example_watcher_tells_each_transition_once_across_a_kill(
    serve: Serve, connect: Connect
) -> None:
    server = await serve()
    client = connect(server)
    command = (str(EXAMPLES / "watch.py"), f"ws://127.0.0.1:{server.port}/ws/supervisor")
    watcher = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE)
    told, numbers = list[str](), count()

    async def is_watching() -> bool:
        await client.send(f"before-{next(numbers)}", 1)
        return bool(told)

    async def has_seen_the_end() -> bool:
        return told[-1].endswith(" c PROCESSING_AI -> ARCHIVED")

    async with _reading(watcher, told):
        await eventually(is_watching)
        await client.send("c", 1)
        await server.restart()
        await client.finish("c")  # while the watcher waits for its next try
        await eventually(has_seen_the_end)
    states = [line.split()[2:] for line in told if line.split()[1] == "c"]
    assert [(left, entered) for left, _, entered in states] == [
        ("None", "IN_PROGRESS"),
        ("IN_PROGRESS", "COMPLETED"),
        ("COMPLETED", "PROCESSING_AI"),
        ("PROCESSING_AI", "ARCHIVED"),
    ]


@asynccontextmanager
async def _reading(process: asyncio.subprocess.Process, told: list[str]) -> AsyncIterator[None]:
    """Collect the lines that *process* prints, and end it."""
    stdout = process.stdout
    assert stdout is not None

    async def read() -> None:
        while line := await stdout.readline():
            told.append(line.decode().strip())

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        process.terminate()
        await process.wait()
        await reading


async def test_the_example_sender_stores_each_line_once_across_a_kill(
    serve: Serve, connect: Connect, sql: Sql
) -> None:
    server = await serve()
    address = f"ws://127.0.0.1:{server.port}"
    command = (str(EXAMPLES / "stream.py"), "c", address)
    sender = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=PIPE, stderr=PIPE)
    assert sender.stdin is not None
    sender.stdin.write(b"".join(b"line %d\n" % n for n in range(1, LINES // 2 + 1)))

    async def has_begun() -> bool:
        return bool(await sql.fetchval("select count(*) > 100 from packets"))

    await eventually(has_begun)
    await server.restart()
    sender.stdin.write(b"".join(b"line %d\n" % n for n in range(LINES // 2 + 1, LINES + 1)))
    sender.stdin.write_eof()
    async with asyncio.timeout(60):
        _, errors = await sender.communicate()
    assert sender.returncode == 0
    assert errors.decode().splitlines()[-1] == f"{LINES} packets are stored"
    found = await sql.fetch("select sequence, data from packets order by sequence")
    assert [tuple(row) for row in found] == [(n, f"line {n}") for n in range(1, LINES + 1)]
    assert (await connect(server).call("c"))["end_reason"] == "api"
