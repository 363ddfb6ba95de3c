"""Vendors' streams whose WebSocket is at another server than their call's actor.

Tried here: either server killed, the call's stopped in order, a stream that goes on over a connection to a
third while its old one ends late, and what is left of a server that is dead when nobody has the call.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from aiohttp import ClientSession
from pytest_aiohttp.plugin import AiohttpClient

from callactors.cluster import NatsOptions, NatsRouter
from callactors.messages import BeginStream
from callactors.system import CallSystem
from callactors.web.keys import SYSTEM
from tests.acceptance.server import QUICK, Server
from tests.cluster_scenes import Nats, joined, nats_server, needs_nats, until_up
from tests.media_scenes import (
    Client,
    cut,
    end_of,
    media,
    say,
    start,
    start_with,
    stop,
    stored,
    streaming,
    told,
    until_logged,
    until_stored,
)
from tests.scenes import Sql, packet, until, until_state
from tests.vendor_fixtures import CALL_IDS, call_of

pytestmark = needs_nats

DROPPED = "select count(*) from call_events where detail->>'phase' = 'dropped'"

Join: TypeAlias = Callable[[str], Awaitable[Client]]
"""Starts a server with the API, which has joined the others."""


@pytest.fixture
async def nats() -> AsyncIterator[Nats]:
    async with nats_server() as server:
        yield server


@pytest.fixture
def join(dsn: str, nats: Nats, aiohttp_client: AiohttpClient) -> Join:
    begin = start_with(dsn, aiohttp_client)

    async def start(name: str) -> Client:
        client = await begin(node=name, router=NatsRouter(NatsOptions(servers=[nats.url])))
        await until_up(client.app[SYSTEM])
        return client

    return start


@asynccontextmanager
async def apart(dsn: str, nats: Nats, directory: Path) -> AsyncIterator[tuple[Server, ClientSession]]:
    """A server in a process of its own, which can be killed, and a client of it."""
    settings = {**QUICK, "node": "apart"}
    async with (
        Server(directory, "--nats", nats.url, dsn=dsn, settings=settings) as server,
        ClientSession(server.url) as client,
    ):
        yield server, client


async def live(system: CallSystem) -> frozenset[str]:
    """The streams of the call that are live."""
    return (await system.read("c")).call.legs.live


async def test_a_server_that_is_killed_drops_its_streams_of_calls_that_others_have(
    dsn: str, sql: Sql, nats: Nats, tmp_path: Path
) -> None:
    async with (
        joined(dsn, nats.url, "owner", drop_timeout=0.2) as owner,
        apart(dsn, nats, tmp_path) as (server, client),
    ):
        await owner.accept("c", packet(1))
        await nats.until_held("c")
        async with streaming(client, start(), *media(2)):
            await until_stored(sql, 3)
            assert owner.has("c")
            await server.kill()
            await until_state(sql, "c", "ARCHIVED")
    assert (await told(sql))[:4] == ["IN_PROGRESS", "started", "dropped", "COMPLETED"]
    assert await end_of(sql) == "stream_dropped"


async def test_a_stream_outlives_the_server_that_has_its_call(
    dsn: str, sql: Sql, nats: Nats, join: Join, tmp_path: Path
) -> None:
    near = await join("near")
    async with joined(dsn, nats.url, "next") as other, apart(dsn, nats, tmp_path) as (owner, client):
        async with client.post(
            "/v1/call/stream/c", json={"sequence": 1, "data": "x", "timestamp": 1.0}
        ) as ack:
            assert ack.status == 202
        await nats.until_held("c")
        async with streaming(near, start(), *media(2)) as ws:
            await until_stored(sql, 3)
            assert not near.app[SYSTEM].has("c")
            await owner.kill()
            await other.accept("c", packet(2))
            assert other.has("c")
            assert await live(other) == {"s"}
            await nats.until_held("c")
            await say(ws, *media(3), stop(4))
            await until_state(sql, "c", "ARCHIVED")
        assert other.has("c")
    assert (await told(sql))[:4] == ["IN_PROGRESS", "started", "stopped", "COMPLETED"]
    assert await stored(sql) == [1, 1, 2, 2, 3, 4]


async def test_a_stream_outlives_a_server_that_gives_its_call_up(
    dsn: str, sql: Sql, nats: Nats, join: Join
) -> None:
    near = await join("near")
    async with joined(dsn, nats.url, "next") as other, joined(dsn, nats.url, "owner") as owner:
        await owner.accept("c", packet(1))
        await nats.until_held("c")
        async with streaming(near, start(), *media(2)) as ws:
            await until_stored(sql, 3)
            assert not near.app[SYSTEM].has("c")
            await owner.stop()
            await other.accept("c", packet(2))
            assert await live(other) == {"s"}
            await nats.until_held("c")
            await say(ws, *media(3), stop(4))
            await until_state(sql, "c", "ARCHIVED")
    assert (await told(sql))[:4] == ["IN_PROGRESS", "started", "stopped", "COMPLETED"]


@pytest.mark.parametrize("vendor", ["twilio", "plivo"])
@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_stream_that_goes_on_at_another_server_outlives_its_old_connection(
    dsn: str, sql: Sql, nats: Nats, join: Join, vendor: str, is_cut: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call_id, messages = CALL_IDS[vendor], call_of(vendor)
    first, most = (1, 4) if vendor == "plivo" else (2, 5)
    before, after = await join("before"), await join("after")
    async with joined(dsn, nats.url, "owner") as owner:
        await owner.accept(call_id, packet(1))
        await nats.until_held(call_id)
        async with streaming(before, *messages[:first]) as old:
            await until_stored(sql, 2)
            async with streaming(after, *messages[:most]) as new:
                await until_stored(sql, 5)
                cut(old) if is_cut else await old.close()
                await until_logged(caplog, f"call {call_id}: a media stream of {vendor} has ended")
                assert await told(sql, call_id) == ["IN_PROGRESS", "started"]
                await say(new, *messages[most:])
                await new.close()
            await until_state(sql, call_id, "ARCHIVED")
        assert owner.has(call_id)
    assert await end_of(sql, call_id) == "stream_stopped"


@pytest.mark.parametrize("is_free", [False, True])
async def test_what_a_dead_server_had_is_found_whoever_has_the_call(
    dsn: str, sql: Sql, nats: Nats, is_free: bool
) -> None:
    async with joined(dsn, nats.url, "owner") as owner:
        await owner.hear("c", BeginStream("here", {}, owner.server))
        await owner.hear("c", BeginStream("gone", {}, "dead/1"))
        if is_free:
            await sql.execute("update calls set owner = null, epoch = epoch + 1")
        await until(sql, DROPPED, 1)
        assert await live(owner) == {"here"}
