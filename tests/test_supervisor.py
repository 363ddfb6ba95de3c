"""Supervisors' sockets in process: snapshots, cursors, filters, gaps, and clients that misbehave."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import pytest
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMsgType, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors import feed
from callactors.errors import StorageUnavailable
from callactors.processors.contract import CallRecord
from callactors.retry import GiveUp, Outcome, Retry
from callactors.store import snapshot, summaries
from callactors.store.connection import close_pool, reading
from callactors.store.events import Cursor, Position
from callactors.system import CallSystem
from callactors.web import sockets, supervisor
from callactors.web.keys import SYSTEM
from tests.scenes import COMPLETE, make_app, packet, until_state
from tests.storage import Sql, until_true

Client: TypeAlias = "TestClient[web.Request, web.Application]"
ENDS = ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "ARCHIVED"]


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn))


@asynccontextmanager
async def watching(client: Client, **query: Any) -> AsyncIterator[ClientWebSocketResponse]:
    async with client.ws_connect("/ws/supervisor", params=query) as ws:
        yield ws


async def receive(ws: ClientWebSocketResponse, wanted: int) -> list[dict[str, Any]]:
    """The next frames that are no bookmarks."""
    told: list[dict[str, Any]] = []
    while len(told) < wanted:
        message = await ws.receive()
        assert message.type is WSMsgType.TEXT, message
        frame = json.loads(message.data)
        told += [frame] if frame["type"] != "bookmark" else []
    return told


async def receive_to(ws: ClientWebSocketResponse, kind: str) -> list[dict[str, Any]]:
    """The frames up to and with the next of a type."""
    told: list[dict[str, Any]] = []
    while not told or told[-1]["type"] != kind:
        told.append(json.loads((await ws.receive()).data))
    return told


async def run_call(system: CallSystem, sql: Sql, call_id: str, end: str = "ARCHIVED") -> None:
    await system.accept(call_id, packet(1))
    await system.complete(call_id, COMPLETE)
    await until_state(sql, call_id, end)


def transport_of(ws: ClientWebSocketResponse) -> asyncio.Transport:
    transport: asyncio.Transport = ws._response.connection.transport  # type: ignore[union-attr,assignment]
    return transport


def told_of(frames: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(frame["call_id"], frame["state"]) for frame in frames]


async def test_a_supervisor_sees_each_transition_and_resumes(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    async with watching(client) as ws:
        await run_call(system, sql, "c")
        told = await receive(ws, 4)
    assert told_of(told) == [("c", state) for state in ENDS]
    async with watching(client, since=told[1]["cursor"]) as ws:
        assert await receive(ws, 2) == told[2:]
        await system.accept("d", packet(1))
        (new,) = await receive(ws, 1)
        assert (new["call_id"], new["from"]) == ("d", None)


async def test_a_connection_without_parameters_is_told_transitions_and_nothing_else(
    client: Client, sql: Sql
) -> None:
    system = client.app[SYSTEM]
    async with watching(client) as ws:
        system.hub.publish(feed.TOPIC, system.feed.bookmark())
        await run_call(system, sql, "c")
        frames = [json.loads((await ws.receive()).data) for _ in range(4)]
        system.drain()
        assert (await ws.receive()).data == WSCloseCode.SERVICE_RESTART
    assert [frame["type"] for frame in frames] == ["event"] * 4


async def test_a_snapshot_comes_first_in_parts_and_then_what_happened_after_it(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PART", 2)
    system = client.app[SYSTEM]
    for number in range(5):
        await system.accept(f"live{number}", packet(1))
    await run_call(system, sql, "ended")
    async with watching(client, snapshot=1) as ws:
        parts = await receive(ws, 4)
        assert [(part["type"], part["part"], part["last"]) for part in parts] == [
            ("snapshot", 1, False),
            ("snapshot", 2, False),
            ("snapshot", 3, False),
            ("snapshot", 4, True),
        ]
        assert len({part["cursor"] for part in parts}) == 1
        await system.complete("live0", COMPLETE)
        view = {call["call_id"]: call for part in parts for call in part["calls"]}
        assert view.keys() == {*(f"live{n}" for n in range(5)), "ended"}
        assert (view["ended"]["state"], view["live1"]["state"]) == ("ARCHIVED", "IN_PROGRESS")
        while view["live0"]["state"] != "ARCHIVED":
            (event,) = await receive(ws, 1)
            if event["version"] > view[event["call_id"]]["version"]:  # the rows may be newer than the cursor
                assert event["call_id"] == "live0"
                view["live0"] = event


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Where each read of live calls began."""
    read_live, places = summaries.read_live, list[object]()

    async def count(connection: Any, after: Any, limit: int) -> Any:
        places.append(after)
        return await read_live(connection, after, limit)

    monkeypatch.setattr(summaries, "read_live", count)
    monkeypatch.setattr(snapshot, "PART", 1)
    return places


async def test_who_comes_soon_after_another_is_told_the_same_snapshot(
    client: Client, reads: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SHARED", 60.0)
    system = client.app[SYSTEM]
    for number in range(3):
        await system.accept(f"c{number}", packet(1))
    async with watching(client, snapshot=1) as first:
        told = await receive(first, 4)
        await system.accept("later", packet(1))
        async with watching(client, snapshot=1) as second:
            assert await receive(second, 4) == told
            while (await receive(second, 1))[0]["call_id"] != "later":
                pass
        async with watching(client, snapshot=1, state="FAILED") as third:
            assert [part["calls"] for part in await receive(third, 4)] == [[]] * 4
    assert len(reads) == 4


async def test_a_snapshot_is_forgotten_in_time(
    client: Client, reads: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SHARED", 0.05)
    system = client.app[SYSTEM]
    await system.accept("c", packet(1))
    old = system.snapshot()
    assert [row.call_id async for part in old.parts() for row in part.rows] == ["c"]
    await until_true(lambda: system.snapshot() is not old and not old._parts)
    await system.accept("later", packet(1))
    async with watching(client, snapshot=1) as ws:
        told = [call["call_id"] for part in await receive(ws, 3) for call in part["calls"]]
    assert told == ["c", "later"]
    assert len(reads) == 2 + 3


async def test_who_goes_in_the_middle_of_a_shared_read_harms_nobody(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three who wait for one part the first is cancelled, and for the second the connection breaks."""
    read_live, begun = summaries.read_live, asyncio.Event()

    async def hang(*_: Any) -> Any:
        begun.set()
        await asyncio.get_running_loop().create_future()

    async def break_off(*_: Any) -> Any:
        raise ConnectionResetError

    turns = [hang, break_off, read_live]

    async def read_in_turn(*arguments: Any) -> Any:
        return await turns.pop(0)(*arguments)

    monkeypatch.setattr(summaries, "read_live", read_in_turn)
    system = client.app[SYSTEM]
    await system.accept("c", packet(1))
    asking = [asyncio.create_task(read_part(system)) for _ in range(3)]
    await begun.wait()
    asking[0].cancel()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends[:2]] == [asyncio.CancelledError, StorageUnavailable]
    assert ends[2] == ["c"]


async def read_part(system: CallSystem) -> list[str]:
    part = await anext(system.snapshot().parts())
    return [row.call_id for row in part.rows]


async def test_a_snapshot_ends_with_the_calls_that_ended_last(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PART", 2)
    monkeypatch.setattr(snapshot, "ENDED", 3)
    for number in range(4):
        await run_call(client.app[SYSTEM], sql, f"c{number}")
    async with watching(client, snapshot=1) as ws:
        parts = await receive(ws, 2)
    assert [part["last"] for part in parts] == [False, True]
    assert [call["call_id"] for part in parts for call in part["calls"]] == ["c3", "c2", "c1"]


async def test_nothing_is_kept_of_a_supervisor_that_is_gone_until_garbage_is_collected(
    client: Client,
) -> None:
    await client.app[SYSTEM].accept("c", packet(1))
    gc.disable()
    try:
        async with watching(client, snapshot=1) as ws:
            await receive(ws, 2)
            assert count_watching() == 1
            transport_of(ws).abort()
        await until_true(lambda: not count_watching())
    finally:
        gc.enable()


def find_watching() -> list[supervisor._Watching]:
    return [thing for thing in gc.get_objects() if isinstance(thing, supervisor._Watching)]


def count_watching() -> int:
    return len(find_watching())


async def test_a_subscribe_that_is_under_way_does_not_outlive_the_key(client: Client) -> None:
    """The key ends between any two steps of it."""
    for steps in range(4):
        async with watching(client) as ws:
            await until_true(lambda: count_watching() == 1)
            [watched] = find_watching()
            hearing = asyncio.create_task(watched._hear({"type": "subscribe", "snapshot": True}))
            for _ in range(steps):
                await asyncio.sleep(0)
            watched.end()
            await hearing
            del watched
            while not ws.closed:
                await ws.receive()
            assert ws.close_code == WSCloseCode.POLICY_VIOLATION, steps
        await until_true(lambda: (gc.collect(), not count_watching())[1])


async def test_who_asks_for_snapshots_all_the_time_is_told_one_a_second(client: Client) -> None:
    loop = asyncio.get_running_loop()
    async with watching(client, snapshot=1) as ws:
        await receive(ws, 1)
        begin = loop.time()
        for _ in range(20):
            await ws.send_json({"type": "subscribe", "snapshot": True})
        told = [frame["type"] for frame in await receive(ws, 21)]
        assert told == ["subscribed"] * 20 + ["snapshot"]
        assert loop.time() - begin > 0.9


async def test_what_happens_while_a_snapshot_is_read_is_told_after_it(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = client.app[SYSTEM]
    reading_begins, go_on = asyncio.Event(), asyncio.Event()
    read_live = summaries.read_live

    async def read_live_later(*arguments: Any) -> Any:
        page = await read_live(*arguments)
        reading_begins.set()
        await go_on.wait()
        return page

    monkeypatch.setattr(summaries, "read_live", read_live_later)
    async with watching(client, snapshot=1) as ws:
        await reading_begins.wait()
        await system.accept("meanwhile", packet(1))
        while not system.feed._recent:  # noqa: ASYNC110  # the feed has published it
            await asyncio.sleep(0.01)
        go_on.set()
        snapshot, event = await receive(ws, 2)
    assert (snapshot["type"], snapshot["last"], snapshot["calls"]) == ("snapshot", True, [])
    assert told_of([event]) == [("meanwhile", "IN_PROGRESS")]


async def test_attempts_are_told_to_who_asks_for_them(dsn: str, aiohttp_client: AiohttpClient) -> None:
    async def fail_once(call: CallRecord) -> Outcome:
        return Retry("busy", after=0.0) if call.attempt == 1 else GiveUp("no")

    client = await aiohttp_client(make_app(dsn, fail_once))
    async with watching(client, kinds="attempt") as ws:
        await client.app[SYSTEM].accept("c", packet(1))
        await client.app[SYSTEM].complete("c", COMPLETE)
        told = await receive(ws, 8)
    assert [(frame["type"], frame.get("phase", frame["state"]), frame["attempt"]) for frame in told] == [
        ("event", "IN_PROGRESS", 0),
        ("event", "COMPLETED", 0),
        ("event", "PROCESSING_AI", 1),
        ("attempt", "started", 1),
        ("attempt", "failed", 1),
        ("attempt", "started", 2),
        ("attempt", "failed", 2),
        ("event", "FAILED", 2),
    ]
    assert (told[4]["reason"], told[4]["retry_in"]) == ("busy", 0.0)
    assert "retry_in" not in told[6]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "COMPLETED"}, [("a", "COMPLETED"), ("a", "PROCESSING_AI"), ("b", "COMPLETED")]),
        ({"state": "FAILED,IN_PROGRESS", "call_id": "b"}, [("b", "IN_PROGRESS"), ("b", "COMPLETED")]),
        ({"call_id": "a"}, [("a", state) for state in ENDS]),
        ({"end_reason": "provider"}, [("b", "COMPLETED")]),
    ],
)
async def test_filters_narrow_what_is_told(
    client: Client, sql: Sql, query: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    system = client.app[SYSTEM]
    async with watching(client, **query) as ws:
        await run_call(system, sql, "a")
        await system.accept("b", packet(1))
        await system.complete("b", COMPLETE.model_copy(update={"reason": "provider"}))
        told = await receive(ws, len(expected))
    assert told_of(told)[: len(expected)] == expected


async def test_a_filtered_snapshot_has_only_what_is_wanted(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    await run_call(system, sql, "ended")
    for call_id in ("a", "b"):
        await system.accept(call_id, packet(1))
    for query, expected in (
        ({"state": "ARCHIVED"}, {"ended"}),
        ({"call_id": "a,ended,unknown"}, {"a", "ended"}),
        ({"end_reason": "busy"}, set()),
    ):
        async with watching(client, snapshot=1, **query) as ws:
            frames = await receive_to(ws, "bookmark")
        assert {call["call_id"] for part in frames[:-1] for call in part["calls"]} == expected


async def test_filters_are_changed_on_the_open_socket(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    async with watching(client, call_id="a") as ws:
        await system.accept("a", packet(1))
        assert told_of(await receive(ws, 1)) == [("a", "IN_PROGRESS")]
        await ws.send_json({"type": "subscribe", "call_id": ["b"], "snapshot": True})
        subscribed, snapshot = await receive(ws, 2)
        assert (subscribed["type"], snapshot["calls"]) == ("subscribed", [])
        await system.accept("a2", packet(1))
        await system.accept("b", packet(1))
        (event,) = await receive(ws, 1)
        assert event["call_id"] == "b"
        await ws.send_json({"type": "subscribe", "since": subscribed["cursor"]})
        again, *events = await receive(ws, 3)
        assert (again["type"], [event["call_id"] for event in events]) == ("subscribed", ["a2", "b"])


async def test_a_subscribe_in_the_middle_of_a_snapshot_begins_it_anew(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "PART", 1)
    for number in range(3):
        await client.app[SYSTEM].accept(f"c{number}", packet(1))
    read_live, release = summaries.read_live, asyncio.Event()

    async def read_live_later(connection: Any, after: Any, limit: int) -> Any:
        if after:
            await release.wait()
        return await read_live(connection, after, limit)

    monkeypatch.setattr(summaries, "read_live", read_live_later)
    async with watching(client, snapshot=1) as ws:
        (part,) = await receive(ws, 1)
        assert (part["part"], part["last"]) == (1, False)
        await ws.send_json({"type": "subscribe", "kinds": ["attempt"]})
        frames = await receive_to(ws, "subscribed")
        release.set()
        frames = await receive(ws, 4)
    assert [frame["part"] for frame in frames] == [1, 2, 3, 4]
    assert [call["call_id"] for frame in frames for call in frame["calls"]] == ["c0", "c1", "c2"]


async def test_a_cursor_of_another_log_is_told_as_a_gap_and_a_snapshot_follows(client: Client) -> None:
    await client.app[SYSTEM].accept("c", packet(1))
    other = "MTIzLzEvMQ"  # 123/1/1
    async with watching(client, since=other) as ws:
        gap, snapshot, last = await receive(ws, 3)
        assert (gap["type"], gap["reason"], last["last"]) == ("gap", "unknown-log", True)
        assert [call["call_id"] for call in snapshot["calls"]] == ["c"]
        await client.app[SYSTEM].accept("d", packet(1))
        (event,) = await receive(ws, 1)
        assert event["call_id"] == "d"


async def test_a_cursor_that_no_event_has_is_told_as_a_gap(client: Client) -> None:
    async with watching(client) as ws:
        await client.app[SYSTEM].accept("c", packet(1))
        (event,) = await receive(ws, 1)
    known = Cursor.parse(event["cursor"])
    assert known is not None
    for made_up in (Position(2**62, 1), known.position._replace(event_id=known.position.event_id + 1)):
        async with watching(client, since=str(known._replace(position=made_up))) as ws:
            (gap,) = await receive(ws, 1)
        assert (gap["type"], gap["reason"]) == ("gap", "unknown-log")


async def test_a_cursor_too_far_back_is_told_as_a_gap(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RECENT", 4)
    monkeypatch.setattr(feed, "FAR", 10)
    client = await aiohttp_client(make_app(dsn))
    system = client.app[SYSTEM]
    cursors = []
    async with watching(client) as ws:
        for number in range(12):
            await system.accept(f"c{number}", packet(1))
            cursors += [event["cursor"] for event in await receive(ws, 1)]
    async with watching(client, since=cursors[0]) as ws:
        gap, snapshot, last = await receive(ws, 3)
        assert (gap["type"], gap["reason"]) == ("gap", "expired")
        assert (len(snapshot["calls"]), last["last"]) == (12, True)
    async with watching(client, since=cursors[1]) as ws:
        assert [event["call_id"] for event in await receive(ws, 10)] == [f"c{n}" for n in range(2, 12)]


async def test_who_comes_back_soon_is_answered_from_memory(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    async with watching(client) as ws:
        await run_call(system, sql, "c")
        told = await receive(ws, 4)
    await close_pool(system._pool)  # nothing can be read from the log any more
    async with watching(client, since=told[0]["cursor"]) as ws:
        assert await receive(ws, 3) == told[1:]


async def test_a_log_that_cannot_be_read_closes_with_1013(
    dsn: str, aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RECENT", 1)
    client = await aiohttp_client(make_app(dsn))
    system = client.app[SYSTEM]
    async with watching(client) as ws:
        for number in range(3):
            await system.accept(f"c{number}", packet(1))
        told = await receive(ws, 3)
    monkeypatch.setattr("callactors.store.connection.ACQUIRE_TIMEOUT", 0.0)
    for query in ({"since": told[0]["cursor"]}, {"snapshot": 1}):
        async with watching(client, **query) as ws:
            assert (await ws.receive()).data == WSCloseCode.TRY_AGAIN_LATER


async def test_an_event_that_a_client_has_seen_elsewhere_is_not_told_again(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    async with sql.transaction():
        await sql.execute("select pg_current_xact_id()")  # from here on this server's feed stands still
        await system.accept("c", packet(1))
        async with reading(system._pool) as other:
            [(xid, event_id)] = await other.fetch("select xid::text::int8, event_id from call_events")
        seen = Cursor(system.feed.cursor.log_id, Position(xid, event_id))
        ws = await client.ws_connect("/ws/supervisor", params={"since": str(seen)})
        while not system.hub.count(feed.TOPIC):  # noqa: ASYNC110  # it follows
            await asyncio.sleep(0.01)
    await system.accept("d", packet(1))
    first = json.loads((await ws.receive()).data)  # and no bookmark that would set it back
    assert (first["type"], first["call_id"]) == ("event", "d")


async def test_a_filtered_client_gets_a_cursor_that_moves(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = client.app[SYSTEM]
    async with watching(client, call_id="none") as ws:
        begin = json.loads((await ws.receive()).data)
        async with watching(client) as other:
            await run_call(system, sql, "c")
            told = await receive(other, 4)
        system.hub.publish(feed.TOPIC, system.feed.bookmark())
        after = json.loads((await ws.receive()).data)
    assert [begin["type"], after["type"]] == ["bookmark", "bookmark"]
    assert begin["cursor"] != after["cursor"]
    async with watching(client, since=after["cursor"]) as ws:
        await system.accept("d", packet(1))
        assert told_of(await receive(ws, 1)) == [("d", "IN_PROGRESS")]
    assert told[-1]["state"] == "ARCHIVED"


async def test_clients_are_told_that_events_come_late_and_by_whom_and_none_is_skipped(
    client: Client, sql: Sql
) -> None:
    system = client.app[SYSTEM]
    async with watching(client, snapshot=1) as ws:
        async with sql.transaction():
            await sql.execute("set local application_name = 'a long report'")
            await sql.execute("select pg_current_xact_id()")
            await system.accept("c", packet(1))
            frames = await receive_to(ws, "degraded")
            assert frames[-1]["reason"] == "held-back"
            ready = await (await client.get("/ready")).json()
            assert ready["events_come_late"] == "held-back"
            assert ready["held_back_by"]["application_name"] == "a long report"
            async with watching(client, kinds="attempt") as late:
                assert (await receive_to(late, "degraded"))[-1]["reason"] == "held-back"
        assert told_of([f for f in await receive_to(ws, "event") if f["type"] == "event"]) == [
            ("c", "IN_PROGRESS")
        ]
        await receive_to(ws, "recovered")


async def test_supervisors_are_told_when_to_come_back_when_the_server_drains(client: Client) -> None:
    async with watching(client, snapshot=1) as ws:
        await receive(ws, 1)
        closing = asyncio.create_task(client.server.close())
        bye = (await receive_to(ws, "bye"))[-1]
        assert bye["code"] == 1012
        assert 100 <= bye["retry_after_ms"] <= 1_002
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, WSCloseCode.SERVICE_RESTART)
    await closing


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", 1007),
        ("[]", 1007),
        ("null", 1007),
        ('{"type":"subscribe","state":["GONE"]}', 1007),
        ('{"type":"subscribe","since":"garbage"}', 1007),
        ('{"type":"subscribe","states":["FAILED"]}', 1007),
        ('{"type":"subscribe","call_id":' + json.dumps(["c"] + [f"c{n}" for n in range(100)]) + "}", 1007),
        ('{"type":"subscribe","kinds":"attempt"}', 1007),
        (b"\x00", 1003),
        ("x" * 1_000_000, 1009),
    ],
)
async def test_what_is_not_understood_ends_the_connection(
    client: Client, sent: str | bytes, code: int
) -> None:
    async with watching(client) as ws:
        await (ws.send_str(sent) if isinstance(sent, str) else ws.send_bytes(sent))
        assert (await ws.receive()).data == code


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("[]", "/: send a JSON object"),
        ('{"type":"subscribe","since":"garbage"}', "/since: send a cursor as an event told it"),
    ],
)
async def test_the_close_frame_says_what_to_mend(client: Client, sent: str, reason: str) -> None:
    async with watching(client) as ws:
        await ws.send_str(sent)
        message = await ws.receive()
    assert (message.type, message.extra) == (WSMsgType.CLOSE, reason)


async def test_a_slow_client_holds_no_connection_while_it_reads_a_snapshot(client: Client) -> None:
    system = client.app[SYSTEM]
    await system.accept("c", packet(1))
    for call_ids in (frozenset({"c"}), frozenset[str]()):
        part = await anext(system.snapshot(call_ids).parts())
        assert [row.call_id for row in part.rows] == ["c"]
        assert system._pool.get_idle_size() == system._pool.get_size()


async def test_messages_of_unknown_types_are_ignored(client: Client) -> None:
    async with watching(client) as ws:
        for sent in ({}, {"type": "later"}, {"type": None, "state": 1}):
            await ws.send_json(sent)
        await client.app[SYSTEM].accept("c", packet(1))
        assert told_of(await receive(ws, 1)) == [("c", "IN_PROGRESS")]


async def test_a_flood_of_messages_ends_the_connection(client: Client) -> None:
    async with watching(client) as ws:
        for _ in range(101):
            await ws.send_str('{"type":"ping"}')
        assert (await ws.receive()).data == WSCloseCode.POLICY_VIOLATION


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("since=%20", "/since"),
        ("since=a&since=b", "/since"),
        ("snapshot=perhaps", "/snapshot"),
        ("state=DONE", "/state/0"),
        ("kinds=packets", "/kinds/0"),
        ("end_reason=", "/end_reason/0"),
        ("filter=x", "/filter"),
        ("type=subscribe", "/type"),
    ],
)
async def test_a_wrong_query_is_refused_before_the_upgrade(client: Client, query: str, pointer: str) -> None:
    answer = await client.get(f"/ws/supervisor?{query}")
    assert answer.status == 422
    assert [error["pointer"] for error in (await answer.json())["errors"]] == [pointer]


async def test_without_an_upgrade_the_answer_says_what_to_do(client: Client) -> None:
    answer = await client.get("/ws/supervisor")
    assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
    assert (await answer.json())["type"] == "/problems/upgrade-required"


async def flood(system: CallSystem, sql: Sql, *clients: ClientWebSocketResponse) -> None:
    """Make *clients* read nothing, and log 27 MB; return when they do not keep up."""
    while system.hub.count(feed.TOPIC) < len(clients):  # noqa: ASYNC110  # all follow
        await asyncio.sleep(0.01)
    for ws in clients:
        transport_of(ws).pause_reading()
    await sql.execute(
        "insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)"
        " select 0, n, 'flood', 'transition', 'COMPLETED', 0, jsonb_build_object('pad', repeat('x', 9000))"
        " from generate_series(1, 3000) n"
    )
    system.feed.poke()
    while system.hub.count(feed.TOPIC):  # noqa: ASYNC110  # none keeps up
        await asyncio.sleep(0.01)


async def test_a_client_that_reads_slowly_is_told_everything_and_one_that_does_not_read_is_cut_off(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one leaves the hub, catches up from the log, and comes back to the hub."""
    monkeypatch.setattr(sockets, "SEND_TIMEOUT", 2.0)
    client.server.runner.server.handler_cancellation = False  # type: ignore[union-attr]  # as in production
    system = client.app[SYSTEM]
    slow = await client.ws_connect("/ws/supervisor")
    stuck = await client.ws_connect("/ws/supervisor")
    await flood(system, sql, slow, stuck)
    transport_of(slow).resume_reading()
    assert [event["version"] for event in await receive(slow, 3000)] == list(range(1, 3001))
    while system.hub.count(supervisor.SUPERVISORS) > 1:  # noqa: ASYNC110  # the stuck one is cut off
        await asyncio.sleep(0.01)
    assert system.feed.cut_off == 1
    await system.accept("c", packet(1))
    assert told_of(await receive(slow, 1)) == [("c", "IN_PROGRESS")]
    await slow.close()
    transport_of(stuck).abort()


async def test_a_client_that_asks_again_and_again_but_does_not_read_is_cut_off(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SEND_TIMEOUT", 1.0)
    client.server.runner.server.handler_cancellation = False  # type: ignore[union-attr]  # as in production
    system = client.app[SYSTEM]
    stuck = await client.ws_connect("/ws/supervisor")
    await flood(system, sql, stuck)
    with suppress(ConnectionError):
        while system.hub.count(supervisor.SUPERVISORS):
            await stuck.send_json({"type": "subscribe", "snapshot": True})
            await asyncio.sleep(0.2)
    while system.hub.count(supervisor.SUPERVISORS):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert system.feed.cut_off == 1
    transport_of(stuck).abort()


async def test_pings_are_answered_and_count_as_messages(client: Client) -> None:
    async with client.ws_connect("/ws/supervisor", autoping=False) as ws:
        for number in range(100):
            await ws.ping(str(number).encode())
            told = await ws.receive()
            assert (told.type, told.data) == (WSMsgType.PONG, str(number).encode())
        await ws.ping()
        assert (await ws.receive()).type is WSMsgType.PONG
        assert (await ws.receive()).data == WSCloseCode.POLICY_VIOLATION


async def test_a_client_that_neither_reads_nor_answers_pings_is_let_go(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing its connection would wait for ever: there is much that it has not read."""
    monkeypatch.setattr(sockets, "SEND_TIMEOUT", 1_000.0)
    monkeypatch.setattr(sockets, "HEARTBEAT", 2.0)
    server = client.server.runner.server  # type: ignore[union-attr]
    server.handler_cancellation = False  # type: ignore[union-attr]  # as in production
    ws = await client.ws_connect("/ws/supervisor", autoping=False)
    await flood(client.app[SYSTEM], sql, ws)
    while server.connections:  # type: ignore[union-attr]  # noqa: ASYNC110  # the server gives it up by itself
        await asyncio.sleep(0.01)
    transport_of(ws).abort()


async def test_a_client_that_reads_nothing_does_not_hold_up_the_shutdown(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SEND_TIMEOUT", 1_000.0)
    client.server.runner.server.handler_cancellation = False  # type: ignore[union-attr]  # as in production
    system = client.app[SYSTEM]
    ws = await client.ws_connect("/ws/supervisor")
    await flood(system, sql, ws)
    system.drain()
    while system.hub.count(supervisor.SUPERVISORS) or client.server.runner.server.connections:  # type: ignore[union-attr]  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    transport_of(ws).abort()


async def test_a_client_whose_queue_overflows_catches_up(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    system.hub._limit = 3
    async with watching(client) as ws:
        while not system.hub.count(feed.TOPIC):  # noqa: ASYNC110  # it follows
            await asyncio.sleep(0.01)
        await sql.execute(
            "insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)"
            " select 0, n, 'burst', 'transition', 'COMPLETED', 0, '{}' from generate_series(1, 50) n"
        )
        system.feed.poke()
        assert [event["version"] for event in await receive(ws, 50)] == list(range(1, 51))


async def test_a_client_that_missed_that_the_ai_step_goes_on_is_told_once_it_has_caught_up(
    client: Client,
) -> None:
    system = client.app[SYSTEM]
    system.hub._limit = 3
    async with watching(client, kinds="attempt") as ws:
        await receive_to(ws, "bookmark")
        system.feed.tell_step("closed")
        assert [frame["state"] for frame in await receive(ws, 1)] == ["closed"]
        for state in ("trying", "closed", "trying", "open"):  # the queue overflows, and nobody hears the last
            system.feed.tell_step(state)
        assert not system.hub.count(feed.TOPIC)
        assert await receive(ws, 1) == [{"type": "ai_step", "state": "open"}]


async def test_that_the_ai_step_pauses_is_told_once_and_to_who_asks_for_more_than_transitions(
    client: Client,
) -> None:
    system = client.app[SYSTEM]
    system.feed.tell_step("closed")
    async with watching(client) as plain, watching(client, kinds="attempt") as ws:
        assert await receive(ws, 1) == [{"type": "ai_step", "state": "closed"}]
        for asking in (ws, plain):
            await asking.send_json({"type": "subscribe"})
        told = [frame["type"] for frame in await receive_to(ws, "bookmark")]
        assert told == ["subscribed", "bookmark"]
        assert [frame["type"] for frame in await receive(plain, 2)] == ["subscribed", "ai_step"]
        await system.accept("c", packet(1))
        assert [frame["type"] for frame in await receive(ws, 1)] == ["event"]


async def test_a_subscribe_does_not_lose_the_cursor_a_client_came_with(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = client.app[SYSTEM]
    async with watching(client) as ws:
        for call_id in ("a", "b"):
            await system.accept(call_id, packet(1))
        told = await receive(ws, 2)
    find_gap, go_on = system.feed.find_gap, asyncio.Event()

    async def find_gap_later(since: Cursor) -> str | None:
        await go_on.wait()
        return await find_gap(since)

    monkeypatch.setattr(system.feed, "find_gap", find_gap_later)
    async with watching(client, since=told[0]["cursor"]) as ws:
        await ws.send_json({"type": "subscribe", "kinds": ["attempt"]})
        await receive_to(ws, "subscribed")
        go_on.set()
        assert told_of(await receive(ws, 1)) == [("b", "IN_PROGRESS")]


async def test_nothing_is_left_when_clients_go(client: Client) -> None:
    hub = client.app[SYSTEM].hub
    for query in ({}, {"snapshot": 1}, {"call_id": "x"}):
        async with watching(client, **query):
            pass
    while hub.count(supervisor.SUPERVISORS) or hub.count(feed.TOPIC):  # noqa: ASYNC110  # handlers end
        await asyncio.sleep(0.01)
