"""What is stored of one call, over HTTP: its events and packets in pages, and the call itself."""

import json
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from callactors.processors.contract import CallRecord
from callactors.retry import Done, Outcome, Retry, RetryPolicy
from callactors.store import history
from callactors.store.events import Cursor
from callactors.system import CallSystem
from callactors.web.keys import SYSTEM
from callactors.web.setup import routes, setup
from tests.scenes import COMPLETE, OPTIONS, make_app, packet, until, until_state
from tests.storage import Sql

Client: TypeAlias = Any


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn))


async def read(client: Client, path: str) -> dict[str, Any]:
    response = await client.get(f"/v1/call/{path}")
    assert response.status == 200, await response.text()
    told: dict[str, Any] = await response.json()
    return told


async def test_a_calls_events_tell_its_story(dsn: str, sql: Sql, aiohttp_client: AiohttpClient) -> None:
    async def second_time(call: CallRecord) -> Outcome:
        return Retry("too busy") if call.attempt == 1 else Done()

    app = web.Application()
    setup(app, CallSystem(dsn, second_time, OPTIONS))
    app.add_routes(routes())
    client = await aiohttp_client(app)
    system = app[SYSTEM]
    await system.accept("c", packet(1))
    await system.complete("c", COMPLETE)
    await until_state(sql, "c", "ARCHIVED")
    told = await read(client, "c/events")
    assert (told["call_id"], told["next"]) == ("c", None)
    cursors = [Cursor.parse(event.pop("cursor")) for event in told["events"]]
    positions = [
        cursor.position for cursor in cursors if cursor and cursor.log_id == system.feed.cursor.log_id
    ]
    assert positions == sorted(set(positions))
    assert len(positions) == len(told["events"])
    assert all(event.pop("at").endswith("Z") for event in told["events"])
    ended = {"end_reason": "api"}
    moved = {"kind": "transition", **ended}
    ai = {"state": "PROCESSING_AI", "from": "PROCESSING_AI", "kind": "attempt", **ended}
    assert told["events"] == [
        {"version": 1, "kind": "transition", "state": "IN_PROGRESS", "from": None, "attempt": 0},
        {"version": 2, "state": "COMPLETED", "from": "IN_PROGRESS", "attempt": 0, **moved},
        {"version": 3, "state": "PROCESSING_AI", "from": "COMPLETED", "attempt": 1, **moved},
        {"version": 4, "attempt": 1, "phase": "started", **ai},
        {"version": 5, "attempt": 1, "phase": "failed", "reason": "too busy", "retry_in": 0.0, **ai},
        {"version": 6, "attempt": 2, "phase": "started", **ai},
        {"version": 7, "attempt": 2, "phase": "succeeded", **ai},
        {"version": 8, "state": "ARCHIVED", "from": "PROCESSING_AI", "attempt": 2, **moved},
    ]


async def test_events_come_in_parts(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    await system.accept("c", packet(1))
    await system.complete("c", COMPLETE)
    await until_state(sql, "c", "ARCHIVED")
    versions: list[int] = []
    after: int | None = 0
    while after is not None:
        told = await read(client, f"c/events?after={after}&limit=2")
        versions += [event["version"] for event in told["events"]]
        after = told["next"]
    assert versions == [1, 2, 3, 4, 5, 6]
    assert (await read(client, "c/events?after=4&limit=2"))["next"] is None
    assert (await read(client, f"c/events?after={2**63 - 1}"))["events"] == []


async def test_packets_of_a_stream_come_in_parts_by_sequence(client: Client) -> None:
    system = client.app[SYSTEM]
    highest = 2**63 - 1
    for sequence in (3, 1, 0, highest):
        await system.accept("c", packet(sequence, data=f"data {sequence}"))
    await system.accept("c", packet(7, data="other", stream="b/ü"))
    told = await read(client, "c/packets")
    assert (told["call_id"], told["stream"], told["next"]) == ("c", "", None)
    assert all(p.pop("received_at").endswith("Z") for p in told["packets"])
    sequences = (0, 1, 3, highest)
    assert told["packets"] == [
        {"sequence": s, "kind": "media", "data": f"data {s}", "timestamp": 1.0} for s in sequences
    ]
    part = await read(client, "c/packets?limit=2")
    assert ([p["sequence"] for p in part["packets"]], part["next"]) == ([0, 1], 1)
    part = await read(client, "c/packets?limit=2&after=1")
    assert ([p["sequence"] for p in part["packets"]], part["next"]) == ([3, highest], None)
    assert (await read(client, f"c/packets?after={highest}"))["packets"] == []
    [other] = (await read(client, "c/packets?stream=b/%C3%BC"))["packets"]
    assert (other["sequence"], other["data"]) == (7, "other")
    assert (await read(client, "c/packets?stream=c"))["packets"] == []


async def test_a_part_of_large_packets_is_cut_short(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_SIZE", 1_000)
    for sequence in (1, 2, 3, 4, 5):
        await client.app[SYSTEM].accept("c", packet(sequence, data="ü" * 300))
    found: list[list[int]] = []
    after: int | None = 0
    while after is not None:
        part = await read(client, f"c/packets?after={after}")
        found.append([p["sequence"] for p in part["packets"]])
        after = part["next"]
    assert found == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize("path", ["", "/events", "/packets"])
async def test_a_call_that_nobody_knows_is_told_so(client: Client, path: str) -> None:
    response = await client.get(f"/v1/call/nobody{path}")
    told = json.loads(await response.text())
    assert (response.status, told["type"]) == (404, "/problems/unknown-call")


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("events?after=-1", "/after"),
        ("events?after=9223372036854775808", "/after"),
        ("events?after=", "/after"),
        ("events?limit=1001", "/limit"),
        ("events?stream=a", "/stream"),
        ("packets?limit=0", "/limit"),
        ("packets?stream=a%00", "/stream"),
        ("packets?stream=" + "a" * 129, "/stream"),
        ("packets?stream=a&stream=b", "/stream"),
        ("packets?before=1", "/before"),
    ],
)
async def test_wrong_parameters_are_named(client: Client, path: str, pointer: str) -> None:
    response = await client.get(f"/v1/call/c/{path}")
    told = json.loads(await response.text())
    assert (response.status, told["type"]) == (422, "/problems/validation")
    assert [error["pointer"] for error in told["errors"]] == [pointer]


async def test_a_call_tells_what_its_streams_miss_and_how_often_it_is_tried(client: Client) -> None:
    for sequence in (0, 2, 6):
        await client.app[SYSTEM].accept("c", packet(sequence))
    await client.app[SYSTEM].accept("c", packet(2, stream="b"))
    told = await read(client, "c")
    assert told["streams"] == {
        "": {"highest": 6, "missing": [[1, 1], [3, 5]], "missing_count": 4, "packets": 3},
        "b": {"highest": 2, "missing": [[1, 1]], "missing_count": 1, "packets": 1},
    }
    assert (told["missing_count"], told["has_gaps"], told["max_attempts"]) == (5, True, 4)


async def test_a_call_that_waits_for_a_retry_tells_when_and_why(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    async def busy(_: CallRecord) -> Outcome:
        return Retry("too busy", after=50.0)

    app = web.Application()
    policy = RetryPolicy(max_attempts=7)
    setup(app, CallSystem(dsn, busy, replace(OPTIONS, policy=policy)))
    app.add_routes(routes())
    client = await aiohttp_client(app)
    await app[SYSTEM].accept("c", packet(1))
    await app[SYSTEM].complete("c", COMPLETE)
    await until(sql, "select wake_at > now() + interval '40 s' from calls where not attempt_running", True)
    told = await read(client, "c")
    [listed] = (await (await client.get("/v1/calls")).json())["calls"]
    assert told["next_attempt_at"] == listed["next_attempt_at"] > told["completed_at"]
    assert (told["max_attempts"], told["last_error"]) == (7, {"attempt": 1, "reason": "too busy"})
