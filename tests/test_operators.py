"""Retry and cancel over HTTP: one call and many, with their lines in the audit."""

from typing import Any, TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors.processors.contract import CallRecord
from callactors.retry import Done, GiveUp, Outcome
from tests.scenes import Sql, make_app, until, until_state

Client: TypeAlias = TestClient[web.Request, web.Application]
PACKET = {"sequence": 1, "data": "x", "timestamp": 1.0}
LAST = {"last_sequence": {"": 1}}


async def only_again(call: CallRecord) -> Outcome:
    """A processor that takes only what is retried."""
    return Done() if call.generation > 1 else GiveUp("no use")


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn, only_again, grace=60.0))


async def complete(client: Client, *call_ids: str) -> None:
    for call_id in call_ids:
        assert (await client.post(f"/v1/call/stream/{call_id}", json=PACKET)).status == 202
        assert (await client.post(f"/v1/call/complete/{call_id}", json=LAST)).status == 202


async def retry_many(client: Client, **query: str) -> dict[str, Any]:
    response = await client.post("/v1/calls/retry", params=query)
    assert response.status == 202
    told: dict[str, Any] = await response.json()
    return told


async def test_a_failed_call_is_retried_once(client: Client, sql: Sql) -> None:
    await complete(client, "c")
    await until_state(sql, "c", "FAILED")
    response = await client.post("/v1/call/c/retry")
    assert await response.json() == {"status": "accepted", "call_id": "c", "generation": 2}
    await until_state(sql, "c", "ARCHIVED")
    again = await client.post("/v1/call/c/retry")
    assert (again.status, (await again.json())["type"]) == (409, "/problems/call-not-failed")
    assert await sql.fetchval("select count(*) from audit where action = 'call retried'") == 1


async def test_a_live_call_is_cancelled_once(client: Client, sql: Sql) -> None:
    await client.post("/v1/call/stream/c", json=PACKET)
    response = await client.post("/v1/call/c/cancel")
    assert await response.json() == {"status": "accepted", "call_id": "c"}
    assert (await (await client.get("/v1/call/c")).json())["end_reason"] == "canceled"
    again = await client.post("/v1/call/c/cancel")
    assert (again.status, (await again.json())["type"]) == (409, "/problems/call-ended")
    line = await sql.fetchrow("select actor, action, call_id from audit")
    assert line is not None
    assert tuple(line) == ("local", "call canceled", "c")


async def test_many_failed_calls_are_counted_and_then_retried_in_pages(client: Client, sql: Sql) -> None:
    await complete(client, *(f"c{number}" for number in range(5)))
    await until(sql, "select count(*) from calls where state = 'FAILED'", 5)
    await client.post("/v1/call/stream/live", json=PACKET)
    dry = await retry_many(client, dry_run="true")
    assert dry == {"matched": 5, "retried": 0, "dry_run": True, "cursor": None}
    assert await sql.fetchval("select count(*) from calls where state = 'FAILED'") == 5
    found = await retry_many(client, limit="3")
    assert (found["matched"], found["retried"]) == (3, 3)
    rest = await retry_many(client, limit="3", cursor=found["cursor"])
    assert (rest["matched"], rest["retried"], rest["cursor"]) == (2, 2, None)
    await until(sql, "select count(*) from calls where state = 'ARCHIVED'", 5)


async def test_many_are_retried_by_why_they_ended(client: Client, sql: Sql) -> None:
    await complete(client, "api")
    await client.post("/v1/call/stream/other", json=PACKET)
    await client.post("/v1/call/other/cancel")
    await until(sql, "select count(*) from calls where state = 'FAILED'", 2)
    assert (await retry_many(client, end_reason="canceled"))["retried"] == 1
    await until_state(sql, "other", "ARCHIVED")
    assert await sql.fetchval("select state from calls where call_id = 'api'") == "FAILED"
