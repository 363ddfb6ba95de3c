"""The receiver in docs/webhooks.md takes what the server sends, once, and nothing else."""

from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from tests.pages import blocks
from tests.scenes import Sql, running, until
from tests.webhook_scenes import end_call, make_endpoint


async def test_the_receiver_of_the_docs_takes_each_message_once(
    dsn: str, sql: Sql, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = blocks("python", page="docs/webhooks.md")
    names: dict[str, Any] = {}
    exec(block.text, names)
    async with TestServer(names["app"]) as server, running(dsn) as system:
        _, names["SECRET"] = await make_endpoint(sql, str(server.make_url("/hook")))
        await end_call(system)
        await until(sql, "select answer from deliveries", "204")
        await sql.execute("update deliveries set delivered_at = null, due_at = now(), answer = null")
        await until(sql, "select answer from deliveries", "204")
        names["SECRET"] = "whsec_" + 43 * "B" + "="
        await sql.execute("update deliveries set delivered_at = null, due_at = now()")
        await until(sql, "select answer from deliveries", "401")
    assert capsys.readouterr().out == "call.archived c\n"
