"""`callactors serve --demo`: calls come in by themselves."""

from pathlib import Path

from aiohttp import ClientSession

from tests.acceptance.history import Sql
from tests.acceptance.server import QUICK, Server, run
from tests.acceptance.waiting import eventually


async def until_calls_come(server: Server) -> None:
    async with ClientSession(server.url) as session:

        async def is_alive() -> bool:
            async with session.get("/v1/stats") as answer:
                told = await answer.json()
            return bool(told["states"]["IN_PROGRESS"] >= 3 and told["packets_per_second"] > 0)

        await eventually(is_alive)


async def test_a_demo_has_live_calls_and_keeps_nothing(tmp_path: Path) -> None:
    async with Server(tmp_path, "--demo", settings={}) as server:
        await server.wait_for_print("deleted at the end")
        await until_calls_come(server)
    assert not (tmp_path / "callactors").exists()


async def test_a_demo_comes_to_another_database_only_by_wish(tmp_path: Path, dsn: str, sql: Sql) -> None:
    refused = await run(tmp_path, "serve", "--port", "0", "--demo", dsn=dsn)
    assert (refused.code, refused.out) == (2, "")
    assert "--demo=any" in refused.error
    assert await sql.fetchval("select count(*) from calls") == 0
    async with Server(tmp_path, "--demo=any", dsn=dsn, settings=QUICK) as server:
        await server.wait_for_print("the database of DATABASE_URL")
        await until_calls_come(server)
    assert await sql.fetchval("select count(*) from calls") >= 3


async def test_a_demo_that_needs_a_key_says_so(tmp_path: Path, dsn: str, sql: Sql) -> None:
    await sql.execute("insert into api_keys (key_id, digest, scopes) values ('x', '', '{}')")
    async with Server(tmp_path, "--demo=any", dsn=dsn, settings=QUICK) as server:

        async def is_told() -> bool:
            return "the server refuses the demo's calls of plivo: HTTP status 401" in server.log

        await eventually(is_told)
