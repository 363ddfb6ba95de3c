"""Real answers and frames have what the models say, and nothing else."""

import json
from collections.abc import Iterable
from typing import Any, TypeAlias

import pytest
from pydantic import ValidationError
from pytest_aiohttp.plugin import AiohttpClient

from callactors.messages import BeginStream
from callactors.processors.contract import CallRecord
from callactors.retry import Done, GiveUp, Outcome, Retry
from callactors.store.events import Cursor, Position, find_holder
from callactors.web.answers import Holder, ProblemDetails
from callactors.web.descriptions import DESCRIPTIONS, Frames, Model
from callactors.web.frames import Bye, Snapshot
from callactors.web.keys import SYSTEM
from callactors.web.openapi import find_problems
from callactors.web.routes import ROUTES, Route
from tests.scenes import make_app, until_state
from tests.storage import Sql

Client: TypeAlias = Any

STREAM, COMPLETE, CALL = "/v1/call/stream/{call_id}", "/v1/call/complete/{call_id}", "/v1/call/{call_id}"
SENT = {"sequence": 1, "data": "x", "timestamp": 1.0}
LINES = b'{"sequence":4,"data":"x","timestamp":1}\n{"sequence":4,"data":"x","timestamp":1}\n'
NDJSON = {"Content-Type": "application/x-ndjson"}
BY_PROXY = {"X-Forwarded-For": "192.0.2.1"}

SCENES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("POST", STREAM, "c", {"json": SENT}),
    ("POST", STREAM, "c", {"json": SENT}),
    ("POST", STREAM, "c", {"data": LINES, "headers": NDJSON}),
    ("POST", STREAM, "c", {"data": b"{}\n", "headers": NDJSON}),
    ("POST", STREAM, "c", {"json": {**SENT, "data": "y"}}),
    ("POST", STREAM, "c", {"json": {**SENT, "sequence": -1}}),
    ("POST", STREAM, "c", {"data": b"{"}),
    ("POST", STREAM, "c", {"data": b"x", "headers": {"Content-Type": "text/plain"}}),
    ("POST", STREAM, "-", {"json": SENT}),
    ("POST", STREAM, "c", {"json": SENT, "headers": BY_PROXY}),
    ("POST", STREAM, "c", {"json": SENT, "headers": {"Origin": "https://elsewhere.example"}}),
    ("GET", STREAM, "c", {}),
    ("POST", COMPLETE, "c", {"json": {"last_sequence": {"": 9}, "metadata": {"a": [1]}}}),
    ("POST", COMPLETE, "c", {}),
    ("POST", COMPLETE, "none", {}),
    ("GET", "/v1/calls", "", {}),
    ("GET", "/v1/calls", "", {"params": {"sort": "transition", "limit": "1"}}),
    ("GET", "/v1/calls", "", {"params": {"limit": "0"}}),
    *(("GET", CALL, call_id, {}) for call_id in ("c", "done", "lost", "none")),
    *(("GET", f"{CALL}/events", call_id, {}) for call_id in ("c", "done", "lost", "none")),
    ("GET", f"{CALL}/events", "done", {"params": {"limit": "1"}}),
    *(("GET", f"{CALL}/packets", call_id, {}) for call_id in ("c", "none")),
    ("GET", f"{CALL}/packets", "stream", {}),
    ("GET", "/v1/stats", "", {}),
    ("GET", "/ws/supervisor", "", {}),
    ("GET", "/health", "", {}),
    ("GET", "/ready", "", {}),
    ("GET", "/ready", "", {"headers": BY_PROXY}),
    ("POST", "/v1/calls/retry", "", {"params": {"dry_run": "true"}}),
    ("POST", "/v1/calls/retry", "", {"params": {"limit": "0"}}),
    *(("POST", f"{CALL}/retry", call_id, {}) for call_id in ("lost", "done", "none")),
    *(("POST", f"{CALL}/cancel", call_id, {}) for call_id in ("c", "done", "none")),
    *(("DELETE", CALL, call_id, {}) for call_id in ("c", "c", "none", "-")),
    ("POST", STREAM, "c", {"json": SENT}),
    ("POST", COMPLETE, "c", {}),
    *(("GET", path, "c", {}) for path in (CALL, f"{CALL}/events", f"{CALL}/packets")),
    *(("GET", "/v1/audit", "", {"params": {"limit": limit}}) for limit in ("9", "0")),
]
AT_THE_END: list[tuple[str, str, str, dict[str, Any]]] = [
    ("POST", STREAM, "c", {"json": {**SENT, "sequence": 2}}),
    ("GET", "/health", "", {}),
    ("GET", "/ready", "", {}),
    ("GET", "/ready", "", {"headers": BY_PROXY}),
]


async def moody(call: CallRecord) -> Outcome:
    """A processor that needs two attempts, and gives some calls up."""
    if call.call_id == "lost":
        return GiveUp("no use")
    return Retry("not yet", after=0.01) if call.attempt == 1 else Done({"packets": call.packet_count})


@pytest.fixture
async def client(dsn: str, sql: Sql, aiohttp_client: AiohttpClient) -> Client:
    """A client of an app that has seen a call archived, and one failed."""
    client = await aiohttp_client(make_app(dsn, moody, grace=60.0))
    for call_id in ("done", "lost"):
        await client.post(f"/v1/call/stream/{call_id}", json=SENT)
        await client.post(f"/v1/call/complete/{call_id}", json={"last_sequence": {"": 1}})
    await until_state(sql, "done", "ARCHIVED")
    await until_state(sql, "lost", "FAILED")
    return client


def route_of(method: str, path: str) -> Route:
    [found] = [route for route in ROUTES if (route.method, route.path) == (method, path)]
    return found


def frames_of(path: str) -> Frames:
    frames = DESCRIPTIONS[route_of("GET", path).handler].frames
    assert frames is not None
    return frames


def fits(model: Model, text: str) -> bool:
    """Whether *text* is what *model* says: nothing missing, nothing more, no other type."""
    try:
        model.model_validate_json(text, strict=True, extra="forbid")
    except ValidationError:
        return False
    return True


def find_model(models: Iterable[Model | str], text: str) -> Model:
    found = [model for model in models if not isinstance(model, str) and fits(model, text)]
    assert len(found) == 1, f"{found} describe {text}"
    return found[0]


async def play(client: Client, scenes: Iterable[tuple[str, str, str, dict[str, Any]]]) -> set[Any]:
    """Make the requests, check what comes, and return which described answers have come."""
    seen = set()
    for method, path, call_id, options in scenes:
        route = route_of(method, path)
        about = DESCRIPTIONS[route.handler]
        response = await client.request(method, path.replace("{call_id}", call_id), **options)
        text = await response.text()
        if response.content_type == "application/json":
            seen.add((method, path, response.status, find_model(about.answers[response.status], text)))
        else:
            assert response.content_type == "application/problem+json"
            assert find_model([ProblemDetails], text)
            told = json.loads(text)
            kinds = find_problems(route, about)
            problems = {(problem.status, f"/problems/{problem.slug}") for problem in kinds}
            assert (response.status, told["type"]) in problems, f"{method} {path}: {text}"
    return seen


async def test_every_answer_is_as_described(client: Client) -> None:
    seen = await play(client, SCENES)
    system = client.app[SYSTEM]
    system.failed = "Feed has ended"
    system.drain()
    seen |= await play(client, AT_THE_END)
    described = {
        (route.method, route.path, status, model)
        for route in ROUTES
        for status, models in DESCRIPTIONS[route.handler].answers.items()
        for model in models
        if not isinstance(model, str)
    }
    assert seen == described


async def test_who_holds_back_events_is_told_as_described(sql: Sql) -> None:
    async with sql.transaction():
        await sql.execute("select pg_current_xact_id()")
        assert fits(Holder, json.dumps(await find_holder(sql)))


async def test_every_frame_to_a_sender_is_as_described(client: Client) -> None:
    frames = frames_of(STREAM)
    seen = set[Model]()
    async with client.ws_connect("/v1/call/stream/c") as ws:
        for sent in (SENT, {**SENT, "sequence": -1}, {"type": "complete"}):
            await ws.send_json(sent)
        while seen != set(frames.server):
            seen.add(find_model(frames.server, await ws.receive_str()))


async def test_every_frame_to_a_supervisor_is_as_described(client: Client) -> None:
    frames = frames_of("/ws/supervisor")
    seen, wanted = set[Model](), set(frames.server)
    system = client.app[SYSTEM]
    query = {"kinds": "attempt", "since": str(Cursor("another", Position(1, 1)))}
    async with client.ws_connect("/ws/supervisor", params=query) as ws:
        while Snapshot not in seen:
            seen.add(find_model(wanted, await ws.receive_str()))
        system.feed.tell_step("closed")
        system.feed.trouble = "held-back"  # it finds that this is over within a second
        await ws.send_json({"type": "subscribe", "kinds": ["attempt", "stream", "status"]})
        await client.post("/v1/hooks/twilio", data={"CallSid": "new", "CallStatus": "ringing", "From": "+1"})
        await system.hear("new", BeginStream("MZ1", {}))
        await client.post("/v1/call/stream/new", json=SENT)
        await client.post("/v1/call/complete/new", json={"last_sequence": {"": 1}})
        await client.delete("/v1/call/lost")
        while seen != wanted - {Bye}:
            seen.add(find_model(wanted, await ws.receive_str()))
        system.drain()
        while Bye not in seen:
            seen.add(find_model(wanted, await ws.receive_str()))
