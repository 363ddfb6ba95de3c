"""The example clients do what docs/protocol.md promises of them, while the server is killed."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from tests.acceptance.fixtures import Connect, Serve
from tests.acceptance.history import Sql
from tests.acceptance.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES = 4_000


async def test_the_example_sender_stores_each_line_once_across_a_kill(
    serve: Serve, connect: Connect, sql: Sql
) -> None:
    server = await serve()
    address = f"ws://127.0.0.1:{server.port}"
    command = (str(EXAMPLES / "stream.py"), "c", "--server", address)
    sender = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=PIPE, stderr=PIPE)
    assert sender.stdin is not None
    sender.stdin.write(b"".join(b"line %d\n" % n for n in range(1, LINES // 2 + 1)))

    async def has_begun() -> bool:
        return bool(await sql.fetchval("select count(*) > 100 from packets"))

    await eventually(has_begun)
    await server.restart()
    sender.stdin.write(b"".join(b"line %d\n" % n for n in range(LINES // 2 + 1, LINES + 1)))
    sender.stdin.write_eof()
    async with asyncio.timeout(60):
        _, errors = await sender.communicate()
    assert sender.returncode == 0
    assert errors.decode().splitlines()[-1] == f"{LINES} packets are stored"
    found = await sql.fetch("select sequence, data from packets order by sequence")
    assert [tuple(row) for row in found] == [(n, f"line {n}") for n in range(1, LINES + 1)]
    assert (await connect(server).call("c"))["end_reason"] == "api"
