"""`adev runserver callactors`, with which contributors work."""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL
from pathlib import Path

from aiohttp import ClientError, ClientSession

from tests.acceptance.server import environment
from tests.acceptance.waiting import eventually

ROOT = Path(__file__).parents[2]
PACKET = {"sequence": 1, "data": "x", "timestamp": 1.0}


def find_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


async def test_the_development_server_takes_packets(tmp_path: Path, dsn: str) -> None:
    port = find_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiohttp_devtools", "runserver", "callactors"),
        *("--port", port, "--aux-port", find_port(), "--no-livereload"),
        stdin=DEVNULL,
        cwd=ROOT,
        env=environment(tmp_path, dsn, {"unsafe_durability": 1}),
    )
    try:
        async with ClientSession(f"http://127.0.0.1:{port}") as session:

            async def is_stored() -> bool:
                try:
                    async with session.post("/v1/call/stream/c", json=PACKET) as answer:
                        return answer.status == 202
                except ClientError:
                    return False

            await eventually(is_stored)
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()
    assert process.returncode == 0
