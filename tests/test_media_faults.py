"""Vendors' streams while something fails: what vendors send they send once, so that nothing may be lost.

Tried: a database that is gone, stands still or refuses, a mailbox that is full, a server that drains, a key
that ends, a peer that does not read, and bursts of more than a connection may have under way.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSMsgType
from pytest_aiohttp.plugin import AiohttpClient

from callactors.access import Scope
from callactors.actors.registry import RegistryLimits
from callactors.errors import StorageUnavailable, Unavailable
from callactors.web import media as web_media
from callactors.web import sockets
from callactors.web.keys import SYSTEM
from callactors.web.lines import WINDOW
from callactors.web.media import MEDIA_STREAMS
from callactors.web.vendor_access import VendorRules
from tests.media_scenes import (
    MEDIA,
    Client,
    Start,
    closed,
    end_key,
    end_of,
    make_key,
    media,
    say,
    start,
    start_with,
    stop,
    stored,
    streaming,
    told,
    transport_of,
    until_begun,
    until_logged,
    until_stored,
)
from tests.proxy import Proxy, Wire, proxy_to
from tests.scenes import until, until_state
from tests.storage import Sql, locked, until_true, until_waiting
from tests.vendor_fixtures import CALL_IDS, call_of

DROPPED = "select count(*) from call_events where detail->>'phase' = 'dropped'"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unavailable, "retry_after", 0.02)


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    async with proxy_to(dsn) as proxy:
        yield proxy


@pytest.fixture
def begin(proxy: Proxy, dsn: str, aiohttp_client: AiohttpClient) -> Start:
    return start_with(dsn, aiohttp_client)


@pytest.fixture
async def client(begin: Start) -> Client:
    return await begin()


async def assert_whole(sql: Sql, count: int, call_id: str = "c") -> None:
    """The call ended by its stream's stop, and has packets 1 to *count*, which the AI step knew of."""
    await until_state(sql, call_id, "ARCHIVED")
    assert await stored(sql, call_id) == list(range(1, count + 1))
    assert await end_of(sql, call_id) == "stream_stopped"
    assert json.loads(await sql.fetchval("select result from calls")) == {"packets": count}


def admits(client: Client) -> bool:
    try:
        client.app[SYSTEM].admit()
    except StorageUnavailable:
        return False
    return True


async def test_a_burst_of_more_than_may_be_under_way_is_stored_in_full(
    client: Client, sql: Sql, dsn: str
) -> None:
    count = 4 * WINDOW
    async with streaming(client, start()) as ws:
        await until_begun(sql)
        async with locked(dsn, "c"):
            await say(ws, *media(*range(2, count)), stop(count))
            await until_waiting(sql)
            journal = client.app[SYSTEM]._journal
            await until_true(lambda: journal.items >= WINDOW)
            await client.get("/health")  # the server has had its turns
            assert journal.items < 1.1 * WINDOW
        await assert_whole(sql, count)


async def test_a_close_in_order_counts_though_it_is_read_late(client: Client, sql: Sql, dsn: str) -> None:
    call_id, first = CALL_IDS["plivo"], call_of("plivo")[0]
    more = json.loads(call_of("plivo")[1])
    messages = [json.dumps({**more, "sequenceNumber": number}) for number in range(2, WINDOW + 101)]
    async with streaming(client, first) as ws:
        await until_begun(sql, call_id)
        async with locked(dsn, call_id):
            await say(ws, *messages[:-10])
            journal = client.app[SYSTEM]._journal
            await until_true(lambda: journal.items >= WINDOW)
            await say(ws, *messages[-10:])
            await ws._writer.send_frame(b"\x03\xe8", WSMsgType.CLOSE)
            transport_of(ws).close()
        await assert_whole(sql, WINDOW + 100, call_id)


@pytest.fixture
async def bereft(
    begin: Start, proxy: Proxy, sql: Sql, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Client:
    """A stream's connection was lost while the database was gone for longer than that is waited for."""
    monkeypatch.setattr(web_media, "_TELL_TIMEOUT", 0.05)
    client = await begin(dsn=proxy.dsn, ack_timeout=0.1)
    async with streaming(client, start(), *media(2)) as ws:
        await until_stored(sql, 2)
        proxy.refuse()
        await say(ws, *media(3))
        await until_true(lambda: not admits(client))
        transport_of(ws).close()
        await until_logged(caplog, "could not be stored in time")
    return client


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_a_stream_survives_a_database_that_is_gone_for_a_while(
    begin: Start, proxy: Proxy, sql: Sql, how: str
) -> None:
    client = await begin(dsn=proxy.dsn, ack_timeout=0.2)
    async with streaming(client, start(), *media(2, 3)) as ws:
        await until_stored(sql, 3)
        if how == "refused":
            proxy.refuse()
        else:
            proxy.wire = Wire.BLACK_HOLE
        await say(ws, *media(*range(4, 300)))
        await until_true(lambda: not admits(client))
        await say(ws, *media(*range(300, 500)), stop(500))
        if how == "refused":
            await proxy.listen()
        else:
            proxy.wire = Wire.PASS
            proxy.cut()
        await assert_whole(sql, 500)


async def test_a_stream_that_begins_and_ends_without_a_database_is_there_when_it_is_back(
    begin: Start, proxy: Proxy, sql: Sql
) -> None:
    client = await begin(dsn=proxy.dsn, ack_timeout=0.1)
    proxy.refuse()
    async with streaming(client, start(), *media(*range(2, 100)), stop(100)) as ws:
        await until_true(lambda: client.app[SYSTEM].has("c"))
        transport_of(ws).close()
        await proxy.listen()
    await assert_whole(sql, 100)


@pytest.mark.usefixtures("bereft")
async def test_that_a_stream_was_lost_is_told_though_the_database_is_back_long_after(
    proxy: Proxy, sql: Sql
) -> None:
    await proxy.listen()
    await until(sql, DROPPED, 1)


async def test_a_stream_that_goes_on_meanwhile_is_not_dropped_afterwards(
    bereft: Client, proxy: Proxy, sql: Sql
) -> None:
    untold = bereft.app[SYSTEM].untold
    assert len(untold) == 1
    async with streaming(bereft, start()) as ws:
        await until_true(lambda: bool(bereft.app[MEDIA_STREAMS]))
        await proxy.listen()
        await until_true(lambda: not len(untold))
        await say(ws, *media(4))
        await until_stored(sql, 4)
        assert await sql.fetchval(DROPPED) == 0


async def test_a_full_mailbox_loses_nothing_before_the_stop(begin: Start, sql: Sql, dsn: str) -> None:
    await sql.execute("insert into calls (call_id) values ('c')")
    client = await begin(registry=RegistryLimits(mailbox=1))
    async with client.ws_connect(MEDIA) as ws:
        async with locked(dsn, "c"):
            await say(ws, start(), *media(*range(2, 30)), stop(30))
            await until_waiting(sql)  # for the claim
            await client.get("/health")
        await assert_whole(sql, 30)


async def test_what_the_database_refuses_is_left_out_and_the_rest_goes_on(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await sql.execute("alter table packets add check (sequence <> 3)")
    async with streaming(client, start(), *media(2, 3, 4), stop(5)):
        await until_state(sql, "c", "ARCHIVED")
    assert await stored(sql) == [1, 2, 4, 5]
    assert "'refused': 1" in await until_logged(caplog, "has ended: {")


async def test_a_server_that_drains_drops_its_streams_and_the_next_one_waits_for_them(
    begin: Start, sql: Sql
) -> None:
    client = await begin()
    async with streaming(client, start(), *media(2)) as ws:
        await until_stored(sql, 2)
        client.app[SYSTEM].drain()
        assert await closed(ws) == (1012, "the server is shutting down")
    response = await client.get(MEDIA, headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert response.status == 503
    await client.close()
    assert await told(sql) == ["IN_PROGRESS", "started", "dropped"]
    await begin(node="next", drop_timeout=0.1)
    await sql.execute("update calls set wake_at = now()")
    await until_state(sql, "c", "ARCHIVED")
    assert await end_of(sql) == "stream_dropped"


async def test_a_stream_goes_on_with_the_next_server(begin: Start, sql: Sql) -> None:
    client = await begin()
    async with streaming(client, start(), *media(2)):
        await until_stored(sql, 2)
        await client.close()
    client = await begin(node="next")
    async with streaming(client, start(), *media(3), stop(4)):
        await assert_whole(sql, 4)
    assert (await told(sql))[1:5] == ["started", "dropped", "resumed", "stopped"]


async def test_a_server_that_drains_goes_on_to_its_end_though_much_comes(begin: Start, sql: Sql) -> None:
    client = await begin(vendors=VendorRules(store_media=True))
    async with streaming(client, start(), autoping=False) as ws:
        await until_begun(sql)
        client.app[SYSTEM].is_draining = True  # in the moment before its sockets hear of it
        await say(ws, *media(*range(2, 30), payload="A" * 200_000))
        await ws.ping()
        assert (await ws.receive()).type is WSMsgType.PONG  # all before it is read
        client.app[SYSTEM].drain()
        assert (await closed(ws))[0] == 1012
    await client.close()
    assert (await told(sql))[:3] == ["IN_PROGRESS", "started", "dropped"]


async def test_the_end_of_a_key_drops_its_streams(client: Client, sql: Sql) -> None:
    key = await make_key(client, sql, Scope.INGEST)
    async with streaming(client, start(), *media(2), path=f"{MEDIA}/{key}") as ws:
        await until_stored(sql, 2)
        await end_key(client, sql, key)
        assert await closed(ws) == (1008, "the key has ended")
    await until(sql, DROPPED, 1)


@pytest.mark.parametrize("pings", [0, 500_000])
async def test_a_peer_that_does_not_read_is_cut_off_and_its_stream_dropped(
    begin: Start, sql: Sql, pings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "HEARTBEAT", 0.3)
    monkeypatch.setattr(sockets, "SEND_TIMEOUT", 0.3)
    client = await begin()
    async with streaming(client, start(), *media(2)) as ws:
        await until_stored(sql, 2)
        transport = transport_of(ws)
        transport.pause_reading()

        async def ping() -> None:
            for _ in range(pings):
                await ws.ping(b"x" * 120)

        pinging = asyncio.create_task(ping())
        await until(sql, DROPPED, 1)
        pinging.cancel()
        await asyncio.gather(pinging, return_exceptions=True)
        transport.abort()
