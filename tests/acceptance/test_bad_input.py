"""Whatever comes in, the answer is a documented problem and never a 500, and what comes next is taken."""

import io
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import WSMsgType
from yarl import URL

from tests.acceptance.client import Client, Reply
from tests.acceptance.fixtures import Connect
from tests.acceptance.server import Server
from tests.acceptance.wrong_input import (
    CASES,
    COMPLETE,
    COMPLETES,
    HEADERS,
    PACKETS,
    STREAM,
    SUBSCRIBES,
    Case,
    Row,
    describe_case,
    packet,
)

Problem = dict[str, Any]
Way = Callable[[Client, str, bytes], Awaitable[Problem]]


@pytest.fixture
def call_id() -> str:
    """A call that nobody else speaks of."""
    return f"bad-{uuid4().hex}"


async def as_request(client: Client, call_id: str, body: bytes) -> Problem:
    reply = await client.request("POST", STREAM + call_id, data=body, headers=HEADERS)
    return check_problem(reply)


async def as_line(client: Client, call_id: str, body: bytes) -> Problem:
    headers = {"Content-Type": "application/x-ndjson"}
    reply = await client.request("POST", STREAM + call_id, data=body + b"\n", headers=headers)
    assert (reply.body["line"], reply.body["stored"]) == (1, 0)
    return check_problem(reply)


async def as_frame(client: Client, call_id: str, body: bytes) -> Problem:
    async with client.session.ws_connect(client.url + STREAM + call_id) as ws:
        await ws.send_str(body.decode())
        refused, ack = await ws.receive_json(), await ws.receive_json()
    assert (refused["type"], refused["frame"], ack) == ("refused", 1, {"type": "ack", "frames": 1})
    return {**refused["problem"], "instance": ""}


def is_text(body: bytes) -> bool:
    """Whether it can come in a text frame."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


WAYS: Final[dict[str, Way]] = {"request": as_request, "line": as_line, "frame": as_frame}
SENT: Final = [
    pytest.param(way, row, id=f"{name} in a {how}")
    for name, row in PACKETS.items()
    for how, way in WAYS.items()
    if how != "frame" or is_text(row.body)
]


COMPLETES_SENT: Final = [
    *(pytest.param(False, row, id=f"{name} in a request") for name, row in COMPLETES.items()),
    *(
        pytest.param(True, row, id=f"{name} in a frame")
        for name, row in COMPLETES.items()
        if row.body.startswith(b'{"') and is_text(row.body)
    ),
]


def check_problem(reply: Reply) -> Problem:
    assert reply.headers["Content-Type"] == "application/problem+json", reply
    assert reply.status == reply.body["status"], reply
    return dict(reply.body)


def check(problem: Problem, row: Row | Case) -> None:
    assert (problem["status"], problem["type"]) == (row.status, f"/problems/{row.slug}"), problem
    assert {"title", "detail", "instance"} <= problem.keys()
    errors = problem.get("errors", [])
    assert tuple(error["pointer"] for error in errors) == row.pointers, problem
    assert all(error["code"] and error["detail"] for error in errors)


@pytest.mark.parametrize(("way", "row"), SENT)
async def test_wrong_packet_is_a_problem_stores_nothing_and_the_next_is_taken(
    shared: Server, connect: Connect, call_id: str, way: Way, row: Row
) -> None:
    client = connect(shared)
    check(await way(client, call_id, row.body), row)
    assert (await client.request("GET", f"/v1/call/{call_id}")).status == 404
    taken = await client.send(call_id, 1)
    assert (taken.status, taken.body["total_received"], taken.body["duplicate"]) == (202, 1, False)


@pytest.mark.parametrize(("is_frame", "row"), COMPLETES_SENT)
async def test_wrong_complete_is_a_problem_and_the_call_goes_on(
    shared: Server, connect: Connect, call_id: str, is_frame: bool, row: Row
) -> None:
    client = connect(shared)
    await client.send(call_id, 1)
    if is_frame:
        problem = await as_frame(client, call_id, row.body.replace(b"{", b'{"type":"complete",', 1))
    else:
        reply = await client.request("POST", COMPLETE + call_id, data=row.body, headers=HEADERS)
        problem = check_problem(reply)
    check(problem, row)
    assert (await client.call(call_id))["state"] == "IN_PROGRESS"
    assert (await client.send(call_id, 2)).body["total_received"] == 2


@pytest.mark.parametrize("case", CASES, ids=describe_case)
async def test_wrong_request_is_a_problem(shared: Server, connect: Connect, case: Case) -> None:
    client = connect(shared)
    async with client.session.request(
        case.method,
        URL(client.url + case.path, encoded=True),
        data=case.body and io.BytesIO(case.body),
        headers=case.headers,
        skip_auto_headers=["Content-Type"],
    ) as response:
        reply = Reply(response.status, json.loads(await response.read()), response.headers)
    check(check_problem(reply), case)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("before", "wrong", "slug"),
    [
        ([packet()], packet(data="y"), "sequence-conflict"),
        ([packet(stream="a")], packet(stream="a", data="X", timestamp=2.0), "sequence-conflict"),
        ([packet(sequence=2 * n) for n in range(1, 101)], packet(sequence=202), "sequence-window"),
        ([packet(stream=str(n)) for n in range(100)], packet(stream="more"), "too-many-streams"),
    ],
    ids=["other data", "other data of a stream", "too many gaps", "too many streams"],
)
async def test_packet_that_does_not_fit_to_those_before_is_a_conflict(
    shared: Server, connect: Connect, call_id: str, way: Way, before: list[bytes], wrong: bytes, slug: str
) -> None:
    client = connect(shared)
    first = await send_lines(client, call_id, before)
    check(await way(client, call_id, wrong), Row(wrong, 409, slug))
    again = await send_lines(client, call_id, [*before, before[0].replace(b"1.0", b"3.5")])
    assert (first["duplicates"], again["duplicates"]) == (0, len(before) + 1)
    assert again["total_received"] == first["total_received"] == len(before)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_packet_of_a_call_that_has_ended_is_refused(
    shared: Server, connect: Connect, call_id: str, way: Way
) -> None:
    client = connect(shared)
    await client.send(call_id, 1)
    await client.complete(call_id, reason="busy", last_sequence={"": 1})
    check(await way(client, call_id, packet(sequence=2)), Row(b"", 409, "call-closed"))


@pytest.mark.parametrize("message", SUBSCRIBES.values(), ids=SUBSCRIBES)
async def test_wrong_message_of_a_supervisor_ends_its_connection(
    shared: Server, connect: Connect, message: str
) -> None:
    client = connect(shared)
    async with client.session.ws_connect(client.url + "/ws/supervisor") as ws:
        await ws.send_str(message)
        while (ended := await ws.receive(timeout=10)).type is WSMsgType.TEXT:
            assert ended.json()["type"] == "event"  # of another test's call
    assert (ended.type, ended.data) == (WSMsgType.CLOSE, 1007)
    assert ended.extra


@pytest.mark.parametrize("path", [STREAM + "frames", "/ws/supervisor"])
async def test_text_frame_that_is_no_utf_8_ends_the_connection(
    shared: Server, connect: Connect, path: str
) -> None:
    client = connect(shared)
    async with client.session.ws_connect(client.url + path) as ws:
        await ws.send_frame(b'{"type":"\xff"}', WSMsgType.TEXT)
        ended = await ws.receive(timeout=10)
    assert (ended.type, ended.data) == (WSMsgType.CLOSE, 1007)


async def test_wrong_field_is_told_without_what_was_in_it(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    reply = await client.request(
        "POST", STREAM + "bad", json={"sequence": "1", "data": "secret", "steam": ""}
    )
    assert [error["pointer"] for error in reply.body["errors"]] == ["/sequence", "/timestamp", "/steam"]
    assert "secret" not in json.dumps(reply.body)


async def test_answer_says_which_methods_are_allowed(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    reply = await client.request("DELETE", STREAM + "bad")
    assert reply.headers["Allow"] == "GET,POST"


@pytest.mark.parametrize(
    "content_type",
    [
        *(None, "application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'),
        *("application/json; charset=us-ascii", "application/json; version=1"),
    ],
)
async def test_packet_of_any_way_to_say_json_is_taken(
    shared: Server, connect: Connect, call_id: str, content_type: str | None
) -> None:
    client = connect(shared)
    headers = {} if content_type is None else {"Content-Type": content_type}
    async with client.session.post(
        client.url + STREAM + call_id, data=packet(), headers=headers, skip_auto_headers=["Content-Type"]
    ) as response:
        assert response.status == 202


async def test_complete_needs_no_body_and_no_content_type(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    await client.send("bad", 1)
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
        reply = await session.post(f"{client.url}{COMPLETE}bad")
        assert reply.status == 202
    assert (await client.request("POST", COMPLETE + "bad")).status == 202
    assert (await client.request("POST", COMPLETE + "bad", json={})).status == 202


@pytest.mark.parametrize("cases", [len(SENT) + len(COMPLETES_SENT) + len(CASES) + len(SUBSCRIBES)])
async def test_so_many_cases_left_no_fault_in_the_log(shared: Server, cases: int) -> None:
    shared.check_log()
    assert cases
    assert " 500 " not in shared.log


async def send_lines(client: Client, call_id: str, packets: list[bytes]) -> Any:
    headers = {"Content-Type": "application/x-ndjson"}
    reply = await client.request("POST", STREAM + call_id, data=b"\n".join(packets), headers=headers)
    assert reply.status == 202, reply
    return reply.body
