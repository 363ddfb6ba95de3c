"""Whatever comes in, the answer is a documented problem+json and never a 500."""

import io
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import aiohttp
from yarl import URL

from tests.acceptance.client import Client, Reply
from tests.acceptance.fixtures import Check, Connect
from tests.acceptance.server import Server

STREAM: Final = "/v1/call/stream/"
COMPLETE: Final = "/v1/call/complete/"
PACKET: Final = {"sequence": 1, "data": "x", "timestamp": 1.0}
WRONG_IDS: Final = [
    *(
        "stream",
        "complete",
        "%00",
        "a%00b",
        "a%2Fb",
        "%2F",
        "a%20b",
        "%20",
        "a" * 129,
        "-a",
        ".",
        "%2E%2E",
        "_a",
    ),
    *("a%0A", "%0Aa", "caf%C3%A9", "%FF", "a+b", "a@b", "a%25b", "%D9%A1", "a;b"),
]
WRONG_PACKETS: Final[list[dict[str, Any]]] = [
    {},
    {"sequence": 1, "data": "x"},
    {**PACKET, "sequence": -1},
    {**PACKET, "sequence": 2**63},
    {**PACKET, "sequence": 10**400},
    {**PACKET, "sequence": 1.0},
    {**PACKET, "sequence": True},
    {**PACKET, "sequence": "1"},
    {**PACKET, "sequence": None},
    {**PACKET, "data": 1},
    {**PACKET, "data": "a\x00b"},
    {**PACKET, "data": "x" * 262_145},
    {**PACKET, "timestamp": "1.0"},
    {**PACKET, "timestamp": -1},
    {**PACKET, "timestamp": 1_700_000_000_000},
    {**PACKET, "stream": None},
    {**PACKET, "stream": "x" * 129},
    {**PACKET, "stream": "\x00"},
    {**PACKET, "steam": "mistyped"},
]
WRONG_JSON: Final = [
    *(b"", b" ", b"{", b"nonsense", b'{"sequence": 1,}', b"\xff\xfe", b"[" * 100_000, b'"\xed\xa0\x80"'),
    b'{"sequence": 1, "data": "\\ud800", "timestamp": 1.0}',
    b'{"sequence": 1, "data": "x", "timestamp": 1.0} {}',
]
NOT_OBJECTS: Final = [b"[]", b"1", b"null", b'"x"', b"true", b"[{}]"]
WRONG_COMPLETES: Final[list[Any]] = [
    [],
    {"last_sequence": 3},
    {"last_sequence": {"": -1}},
    {"last_sequence": {"": "3"}},
    {"last_sequence": {"\x00": 3}},
    {"last_sequence": {str(n): 1 for n in range(1_001)}},
    {"reason": "boredom"},
    {"metadata": []},
    {"metadata": {"a": {"b": ["\x00"]}}},
    {"reasons": "api"},
]


class Case(NamedTuple):
    """A request and the answer it must get."""

    status: int
    slug: str
    method: str
    path: str
    options: Mapping[str, Any] = MappingProxyType({})


def body(
    content: bytes | dict[str, Any] | list[Any], content_type: str = "application/json"
) -> dict[str, Any]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {"data": data, "headers": {"Content-Type": content_type}}


async def find_wrong(client: Client, cases: list[Case]) -> list[str]:
    """Return the cases that were answered otherwise."""
    wrong = []
    for case in cases:
        shown = f"{case.method} {case.path[:60]} {str(case.options)[:80]}"
        url = URL(client.url + case.path, encoded=True)
        async with client.session.request(case.method, url, **case.options) as response:
            text = await response.text()
            told = (response.status, response.content_type)
        if told != (case.status, "application/problem+json"):
            wrong.append(f"{shown}: {told} {text[:200]}")
            continue
        reply = Reply(told[0], json.loads(text), response.headers)
        if reply.slug != case.slug or not {"title", "detail", "instance"} <= reply.body.keys():
            wrong.append(f"{shown}: {reply}")
    return wrong


async def test_wrong_bodies_are_problems_and_store_nothing(
    shared: Server, connect: Connect, check_shared: Check
) -> None:
    client = connect(shared)
    await client.send("known", 1)
    wrong = await find_wrong(
        client,
        [
            *(Case(400, "invalid-json", "POST", STREAM + "wrong", body(content)) for content in WRONG_JSON),
            *(Case(422, "validation", "POST", STREAM + "wrong", body(content)) for content in NOT_OBJECTS),
            *(Case(422, "validation", "POST", STREAM + "wrong", body(content)) for content in WRONG_PACKETS),
            *(Case(422, "validation", "POST", COMPLETE + "known", body(part)) for part in WRONG_COMPLETES),
            Case(400, "invalid-json", "POST", COMPLETE + "known", body(b"{")),
        ],
    )
    assert not wrong, "\n".join(wrong)
    assert (await client.call("known"))["state"] == "IN_PROGRESS"
    assert (await check_shared(client)).calls == 1
    assert (await client.request("GET", "/v1/call/wrong")).status == 404


async def test_wrong_field_is_pointed_at(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    reply = await client.request(
        "POST", STREAM + "bad", json={"sequence": "1", "data": "secret", "steam": ""}
    )
    assert [error["pointer"] for error in reply.body["errors"]] == ["/sequence", "/timestamp", "/steam"]
    assert all(error["code"] and error["detail"] for error in reply.body["errors"])
    assert "secret" not in json.dumps(reply.body)


async def test_wrong_ids_paths_methods_and_media_types_are_problems(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    json_body = body(PACKET)
    large = [
        {"data": io.BytesIO(b" " * 2_000_000), "headers": {"Content-Type": "application/json"}}
        for _ in range(2)
    ]
    wrong = await find_wrong(
        client,
        [
            *(Case(422, "invalid-call-id", "POST", STREAM + call_id, json_body) for call_id in WRONG_IDS),
            *(Case(422, "invalid-call-id", "POST", COMPLETE + call_id) for call_id in WRONG_IDS),
            *(Case(422, "invalid-call-id", "GET", "/v1/call/" + call_id) for call_id in WRONG_IDS),
            Case(404, "unknown-call", "GET", "/v1/call/nobody"),
            Case(404, "unknown-call", "POST", COMPLETE + "nobody"),
            *(
                Case(404, "not-found", "POST", path, json_body)
                for path in ("/nowhere", STREAM, "/v1/call/c/d/e")
            ),
            Case(404, "not-found", "GET", "/v1"),
            *(
                Case(405, "method-not-allowed", method, STREAM + "bad")
                for method in ("PUT", "DELETE", "PATCH")
            ),
            Case(405, "method-not-allowed", "POST", "/v1/call/c", json_body),
            Case(405, "method-not-allowed", "GET", COMPLETE + "bad"),
            Case(405, "method-not-allowed", "POST", "/health", json_body),
            Case(415, "unsupported-media-type", "POST", STREAM + "bad", body(PACKET, "text/plain")),
            Case(415, "unsupported-media-type", "POST", STREAM + "bad", body(PACKET, "application/xml")),
            Case(
                415, "unsupported-media-type", "POST", COMPLETE + "bad", body({"reason": "api"}, "text/plain")
            ),
            Case(
                415,
                "unsupported-media-type",
                "POST",
                STREAM + "bad",
                body(PACKET, "application/json; charset=utf-16"),
            ),
            Case(413, "body-too-large", "POST", STREAM + "bad", large[0]),
            Case(413, "body-too-large", "POST", COMPLETE + "bad", large[1]),
            Case(426, "upgrade-required", "GET", "/ws/supervisor"),
            Case(422, "validation", "GET", "/ws/supervisor?since=garbage"),
        ],
    )
    assert not wrong, "\n".join(wrong)


async def test_answer_says_which_methods_are_allowed(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    reply = await client.request("DELETE", STREAM + "bad")
    assert reply.headers["Allow"] == "GET,POST"


async def test_complete_needs_no_body_and_no_content_type(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    await client.send("bad", 1)
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
        reply = await session.post(f"{client.url}{COMPLETE}bad")
        assert reply.status == 202
    assert (await client.request("POST", COMPLETE + "bad")).status == 202
    assert (await client.request("POST", COMPLETE + "bad", json={})).status == 202
