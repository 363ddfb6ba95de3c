"""The audit: read in pages by administrators, and never changed."""

import json
from typing import Any, TypeAlias

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors.access import Scope
from callactors.store.api_keys import create_key
from callactors.store.audit import write_audit
from callactors.web.keys import SYSTEM
from tests.scenes import make_app, packet
from tests.storage import Sql

Client: TypeAlias = "TestClient[web.Request, web.Application]"


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn))


async def get(client: Client, path: str, key: str | None = None) -> tuple[int, Any]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with client.get(path, headers=headers) as response:
        return response.status, json.loads(await response.text())


async def test_lines_come_in_pages_the_newest_first(client: Client, sql: Sql) -> None:
    for number in range(5):
        await write_audit(sql, "somebody", "tried", call_id=f"c{number}", detail={"n": number})
    found, path = [], "/v1/audit?limit=2"
    while path:
        status, told = await get(client, path)
        assert status == 200
        found.append([line["call_id"] for line in told["audit"]])
        path = f"/v1/audit?limit=2&before={told['next']}" if told["next"] else ""
    assert found == [["c4", "c3"], ["c2", "c1"], ["c0"]]
    _, told = await get(client, "/v1/audit?limit=1")
    [line] = told["audit"]
    assert (line["actor"], line["action"], line["detail"]) == ("somebody", "tried", {"n": 4})
    assert line.keys() == {"number", "at", "actor", "action", "call_id", "detail"}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=0", "before=x", "after=1"])
async def test_wrong_parameters_are_named(client: Client, query: str) -> None:
    status, problem = await get(client, f"/v1/audit?{query}")
    assert (status, problem["errors"][0]["pointer"]) == (422, f"/{query.partition('=')[0]}")


async def test_only_a_key_of_an_administrator_of_all_calls_opens_it(client: Client, sql: Sql) -> None:
    every = [scope for scope in Scope if scope is not Scope.ADMIN]
    answers = {}
    for name, scopes, prefix in (
        ("admin", [Scope.ADMIN], ""),
        ("part", [Scope.ADMIN], "a-"),
        ("others", every, ""),
    ):
        answers[name] = await create_key(sql, "test", set(scopes), prefix=prefix)
    await client.app[SYSTEM].keys.load()
    found = {name: (await get(client, "/v1/audit", key))[0] for name, key in answers.items()}
    assert found == {"admin": 200, "part": 403, "others": 403}


async def test_a_key_erases_the_calls_it_is_for_and_is_named(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    for call_id in ("a-1", "b-1"):
        await system.accept(call_id, packet(1))
    keys = [
        await create_key(sql, "test", {scope}, prefix="a-")
        for scope in (Scope.ADMIN, Scope.INGEST, Scope.SUPERVISE)
    ]
    await system.keys.load()
    found = {}
    for key in keys:
        for call_id in ("a-1", "b-1"):
            headers = {"Authorization": f"Bearer {key}"}
            async with client.delete(f"/v1/call/{call_id}", headers=headers) as response:
                found[keys.index(key), call_id] = response.status
    assert [call for call, status in found.items() if status == 202] == [(0, "a-1")]
    assert set(found.values()) == {202, 403}
    actor = await sql.fetchval("select actor from audit where action = 'call erased'")
    assert actor == keys[0].split("_")[1]


@pytest.mark.parametrize("statement", ["update audit set actor = 'x'", "delete from audit", "truncate audit"])
async def test_it_cannot_be_changed(sql: Sql, statement: str) -> None:
    await write_audit(sql, "somebody", "tried")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sql.execute(statement)
    assert await sql.fetchval("select actor from audit") == "somebody"
