"""Ingest over WebSockets. Tried: wrong frames, a cut with a repeat of what was not acked, a database that
stands still, shutdown under load, frames that are no text."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors.web import sockets
from callactors.web.keys import SYSTEM
from callactors.web.lines import WINDOW
from tests.scenes import make_app
from tests.storage import Sql, locked, until

Client = TestClient[web.Request, web.Application]
Told = dict[str, Any]


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn))


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[ClientWebSocketResponse]:
    async with client.ws_connect("/v1/call/stream/c") as ws:
        yield ws


async def send(ws: ClientWebSocketResponse, sequences: Iterable[int], data: str = "x") -> None:
    for sequence in sequences:
        await ws.send_str(json.dumps({"sequence": sequence, "data": data, "timestamp": 1.0}))


async def told_until(ws: ClientWebSocketResponse, frames: int) -> list[Told]:
    """What is told up to the ack of so many frames; acks must rise."""
    told: list[Told] = []
    acked = 0
    while acked < frames:
        told.append(await ws.receive_json())
        if told[-1]["type"] == "ack":
            assert acked < told[-1]["frames"] <= frames
            acked = told[-1]["frames"]
    return told


async def stored(sql: Sql) -> list[int]:
    return [r["sequence"] for r in await sql.fetch("select sequence from packets order by 1")]


async def test_acked_frames_are_stored(client: Client, sql: Sql) -> None:
    async with connected(client) as ws:
        await send(ws, range(1, 501))
        told = await told_until(ws, 500)
        assert await stored(sql) == list(range(1, 501))
    assert {frame["type"] for frame in told} == {"ack"}
    assert len(told) < 250, "frames that come together are answered together"


async def test_pings_between_frames_are_answered(client: Client) -> None:
    async with client.ws_connect("/v1/call/stream/c", autoping=False) as ws:
        await ws.ping(b"here?")
        told = await ws.receive()
        assert (told.type, told.data) == (WSMsgType.PONG, b"here?")
        await send(ws, [1])
        assert [frame["frames"] for frame in await told_until(ws, 1)] == [1]


async def test_refused_frames_are_named_before_the_ack_and_the_rest_goes_on(client: Client, sql: Sql) -> None:
    async with connected(client) as ws:
        await send(ws, [1, 2, 1])
        await send(ws, [2], data="other")
        await ws.send_str("{")
        await send(ws, [-1, 3])
        for frame in ('{"type":"hello"}', '{"type":"complete","reason":"poison"}', "[1]"):
            await ws.send_str(frame)
        await ws.send_str('{"sequence":' + "9" * 5_000 + ',"type":1}')
        await send(ws, [4])
        told = await told_until(ws, 12)
    refused = [(frame["frame"], frame["problem"]["type"]) for frame in told if frame["type"] == "refused"]
    assert refused == [
        (4, "/problems/sequence-conflict"),
        (5, "/problems/invalid-json"),
        (6, "/problems/validation"),
        (8, "/problems/validation"),
        (9, "/problems/validation"),
        (10, "/problems/validation"),
        (11, "/problems/invalid-json"),
    ]
    acked = 0
    for answer in told:
        if answer["type"] == "ack":
            acked = answer["frames"]
        else:
            assert answer["frame"] > acked
    assert await stored(sql) == [1, 2, 3, 4]


async def test_a_frame_completes_the_call_behind_the_packets_before_it(client: Client, sql: Sql) -> None:
    async with connected(client) as ws:
        await ws.send_str('{"type":"complete"}')
        assert (await ws.receive_json())["problem"]["type"] == "/problems/unknown-call"
        await ws.receive_json()
        await send(ws, range(1, 101))
        await ws.send_str('{"type": "complete", "last_sequence": {"": 101}, "metadata": {"a": 1}}')
        await ws.send_str('{"type": "complete"}')
        told = await told_until(ws, 103)
    completed = [frame for frame in told if frame["type"] == "completed"]
    assert completed[0] | {"state": "COMPLETED"} == {
        "type": "completed",
        "frame": 102,
        "status": "accepted",
        "call_id": "c",
        "state": "COMPLETED",
        "missing_sequences": {"": [[101, 101]]},
        "missing_count": 1,
    }
    assert (completed[1]["frame"], completed[1]["status"]) == (103, "already_completed")
    await until(sql, "(select state = 'ARCHIVED' and metadata = '{\"a\": 1}' from calls)")


async def test_after_a_cut_all_behind_the_last_ack_is_sent_again(client: Client, sql: Sql, dsn: str) -> None:
    order = [*range(60, 0, -1), *range(61, 401)]
    async with connected(client) as ws:
        await send(ws, order[:30])
        await told_until(ws, 30)
        async with locked(dsn, "c"):
            await send(ws, order[30:])
            ws._response.connection.transport.abort()  # type: ignore[union-attr]
    async with connected(client) as ws:
        await send(ws, order[30:])
        told = await told_until(ws, len(order) - 30)
    assert {frame["type"] for frame in told} == {"ack"}
    assert await stored(sql) == list(range(1, 401))


async def test_frames_are_read_no_faster_than_they_are_stored(client: Client, sql: Sql, dsn: str) -> None:
    async with connected(client) as ws:
        await send(ws, [1])
        await ws.receive_json()
        journal = client.app[SYSTEM]._journal
        async with locked(dsn, "c"):
            sending = asyncio.create_task(send(ws, range(2, 20_001), data="x" * 1_000))
            async with asyncio.timeout(4):
                while journal.items < WINDOW:  # noqa: ASYNC110  # the server takes what it may
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert journal.items == WINDOW
            assert not sending.done()
        await told_until(ws, 20_000)
    assert await sql.fetchval("select count(*) from packets") == 20_000


async def test_at_shutdown_what_has_come_is_answered_and_the_client_told_to_come_back(
    client: Client, sql: Sql
) -> None:
    async with connected(client) as ws:
        await send(ws, range(1, 301))
        assert (await ws.receive_json())["type"] == "ack"
        client.app[SYSTEM].drain()
        acked = refused = 0
        while (message := await ws.receive()).type is WSMsgType.TEXT:
            told = json.loads(message.data)
            if told["type"] == "refused":
                refused += 1
                assert told["problem"]["type"] == "/problems/draining"
            else:
                acked = told["frames"]
        assert message.data == 1012
    assert len(await stored(sql)) >= acked - refused


async def test_binary_frames_and_long_ones_end_the_connection(client: Client) -> None:
    async with connected(client) as ws:
        await ws.send_bytes(b"x")
        assert (await ws.receive()).data == 1003
    async with connected(client) as ws:
        await send(ws, [1], data="x" * 2_000_000)
        assert (await ws.receive()).data == 1009


async def test_a_sender_that_does_not_read_its_answers_is_cut_off(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SEND_TIMEOUT", 0.2)
    server = client.server.runner.server  # type: ignore[union-attr]
    server.handler_cancellation = False  # type: ignore[union-attr]  # as in production
    ws = await client.ws_connect("/v1/call/stream/c")
    hub = client.app[SYSTEM].hub
    ws._response.connection.transport.pause_reading()  # type: ignore[union-attr]
    with suppress(ConnectionError):
        async with asyncio.timeout(20):
            while hub.count("ingest sockets"):
                for _ in range(500):
                    await ws.send_str("{")  # the answer to it is longer
                await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while hub.count("ingest sockets"):  # noqa: ASYNC110  # the handler ends on its own
            await asyncio.sleep(0.01)


async def test_a_sender_of_nothing_but_wrong_frames_is_sent_away_and_what_came_before_is_stored(
    client: Client, sql: Sql
) -> None:
    async with connected(client) as ws:
        await send(ws, [1])
        for _ in range(1_000):
            await ws.send_str("{}")
        told = []
        while not ws.closed:
            message = await ws.receive()
            told += [json.loads(message.data)["type"]] if message.type is WSMsgType.TEXT else []
        assert ws.close_code == 1008
    assert told.count("refused") <= 50
    assert await stored(sql) == [1]
