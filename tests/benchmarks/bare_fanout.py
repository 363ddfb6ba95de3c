"""The yardstick: aiohttp WebSockets, and a loop that sends one text to all of them again and again."""

import asyncio
from typing import Final

from aiohttp import web

from tests.benchmarks.bare import serve

_SOCKETS: Final = web.AppKey("sockets", set[web.WebSocketResponse])


async def supervisor(request: web.Request) -> web.WebSocketResponse:
    """Take one socket, set up as the server does."""
    ws = web.WebSocketResponse(heartbeat=20.0, timeout=1.0, compress=False, max_msg_size=64 * 1024)
    await ws.prepare(request)
    request.app[_SOCKETS].add(ws)
    try:
        async for _ in ws:
            pass
    finally:
        request.app[_SOCKETS].discard(ws)
    return ws


async def send(request: web.Request) -> web.Response:
    """Send texts of *size* characters for so many *seconds*, and answer how many."""
    told, sockets = await request.json(), request.app[_SOCKETS]
    text, clock = "x" * told["size"], asyncio.get_running_loop().time
    until, sends = clock() + told["seconds"], 0
    while clock() < until:
        for ws in tuple(sockets):
            await ws.send_str(text)
            sends += 1
        await asyncio.sleep(0)  # for pings and pongs
    return web.json_response({"sends": sends})


if __name__ == "__main__":
    bare = web.Application()
    bare[_SOCKETS] = set()
    bare.add_routes([web.get("/ws/supervisor", supervisor), web.post("/send", send)])
    asyncio.run(serve(bare))
