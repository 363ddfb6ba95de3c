"""The AI step from the settings to the stored result, and what docs/ai-step.md shows of it."""

import json
from typing import Any

from pytest_aiohttp.plugin import AiohttpClient

from callactors.app import make_app
from callactors.packets import PacketKind
from callactors.processors.bodies import CallBody
from callactors.retry import Done, GiveUp
from callactors.settings import Settings
from callactors.store.contents import StoredPacket
from tests.pages import blocks
from tests.provider_scenes import JSON, Talk, make_call, provide
from tests.scenes import Sql, events, until_state

_PAGE = "docs/ai-step.md"


async def test_a_call_goes_through_a_provider_that_fails_once(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    bodies = list[dict[str, Any]]()

    async def script(talk: Talk) -> None:
        bodies.append(json.loads((await talk.read_request()).body))
        talk.answer(*((200, JSON) if len(bodies) == 2 else (503, b"", "Retry-After: 0")))

    async with provide(script) as provider:
        settings = Settings(
            database_url=dsn,
            unsafe_durability=True,
            grace=0,
            processor="http",
            http_url=provider.url,
            http_allow_private=True,
        )
        client = await aiohttp_client(make_app(settings))
        for sequence in (1, 2):
            packet = {"sequence": sequence, "data": "hello", "timestamp": 1, "kind": "text", "stream": "a"}
            assert (await client.post("/v1/call/stream/c", json=packet)).status == 202
        ended = {"last_sequence": {"a": 2}, "metadata": {"team": "sales"}}
        assert (await client.post("/v1/call/complete/c", json=ended)).status == 202
        await until_state(sql, "c", "ARCHIVED")
        told = await (await client.get("/v1/call/c")).json()
    assert (told["result"], told["attempt"]) == (JSON, 2)
    first, second = bodies
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["idempotency_key"] == second["idempotency_key"] == "c:1"
    assert second["metadata"]["team"] == "sales"
    assert [(p["sequence"], p["kind"], p["data"]) for p in second["packets"]] == [
        (1, "text", "hello"),
        (2, "text", "hello"),
    ]
    reasons = await sql.fetch("select detail->>'reason' as told from call_events where call_id = 'c'")
    assert "the provider answered 503" in {record["told"] for record in reasons}
    assert (await events(sql, "c"))[-1][1] == "ARCHIVED"


async def test_the_example_of_an_own_processor_works() -> None:
    (block,) = blocks("python", page=_PAGE)
    names: dict[str, Any] = {}
    exec(block.text, names)
    counter = names["WordCounter"]()
    said = StoredPacket("", 1, PacketKind.TEXT, 1.0, "good day to you")
    assert await counter(make_call([said])) == Done({"words": 4})
    assert await counter(make_call()) == GiveUp("nothing was said")
    await counter.close()


async def test_the_request_that_is_shown_is_the_one_that_is_made() -> None:
    request, _ = blocks("http", page=_PAGE)
    told = json.loads(request.text.partition("\n\n")[2])
    packet = StoredPacket("", 1, PacketKind.TEXT, 0.5, "hello")
    call = make_call([packet], call_id="call-7", attempt=2, metadata={"from": "+15550100"})
    made = json.loads(b"".join([piece async for piece in CallBody(call, 10_000)]))
    assert made == told
