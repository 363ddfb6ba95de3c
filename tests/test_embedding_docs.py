"""What docs/embedding.md shows and says is so. The test on that page is run by test_testing.py."""

import asyncio
from typing import Any

from pytest_aiohttp.plugin import AiohttpClient

from callactors import CallState
from tests.scenes import OPTIONS, Sql, done, packet, running
from tests.test_typing import blocks

SENT = {"sequence": 1, "data": "x", "timestamp": 1}


def shown(name: str) -> dict[str, Any]:
    """The names of the block on the page that defines *name*."""
    (code,) = [block for block in blocks("docs/embedding.md") if f" {name}(" in block]
    names: dict[str, Any] = {"__name__": "shown"}
    exec(code, names)
    return names


async def test_an_application_ends_calls_from_a_page_of_its_own(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    client = await aiohttp_client(shown("make_app")["make_app"](dsn, OPTIONS))
    assert (await client.post("/voice/v1/call/stream/c", json=SENT)).status == 202
    assert await (await client.post("/desk/c/hang-up")).json() == {"state": "FAILED"}
    assert (await client.post("/desk/other/hang-up")).status == 404
    told = await (await client.get("/voice/v1/call/c")).json()
    assert (told["end_reason"], told["metadata"]) == ("busy", {"by": "the front desk"})


async def test_an_own_actor_keeps_the_last_words(dsn: str) -> None:
    names = shown("read_along")
    async with names["make_system"](dsn, done, OPTIONS) as calls:
        for number, word in enumerate(["a", "b", "c", "d", "d"], start=1):
            await calls.accept("call", packet(min(number, 4), word))
        assert await names["read_along"](calls, "call") == ["b", "c", "d"]


async def test_the_end_of_a_call_is_waited_for(dsn: str) -> None:
    until_ended = shown("until_ended")["until_ended"]
    async with running(dsn) as calls:
        start = str(calls.feed.cursor)
        await calls.accept("call", packet(1))
        await calls.complete("call")
        ended = await until_ended(calls, "call", start)
        assert (ended.to_state, await until_ended(calls, "call", start)) == (CallState.ARCHIVED, ended)
        waiting = asyncio.create_task(until_ended(calls, "other"))
        await asyncio.sleep(0)
        calls.drain()
        assert await waiting is None


async def test_actors_of_other_things_run_alone() -> None:
    assert await shown("report")["report"]([20.0, 90.5, 30.0]) == [20.0, 90.5, 90.5]
