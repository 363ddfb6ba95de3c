"""The yardstick: an aiohttp handler that validates a packet and answers as the server does, unstored."""

import asyncio
import gc
import signal
import socket

from aiohttp import web
from pydantic_core import to_json

from callactors.packets import read_packet


async def stream(request: web.Request) -> web.Response:
    """Answer as to a packet that came in order."""
    packet = read_packet(await request.read())
    told = {
        "status": "accepted",
        "call_id": request.match_info["call_id"],
        "stream": packet.stream,
        "sequence": packet.sequence,
        "duplicate": False,
        "late": False,
        "total_received": packet.sequence,
        "missing_sequences": (),
        "missing_count": 0,
        "message": "stored",
    }
    return web.Response(body=to_json(told), status=202, content_type="application/json")


async def serve(app: web.Application) -> None:
    """Serve *app* on a port of the kernel's choice, and print the URL, until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=75.0)
    await runner.setup()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 2, 2)  # as the server does
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await web.SockSite(runner, listener, backlog=1024).start()
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        await stopping.wait()
        await runner.cleanup()


if __name__ == "__main__":
    bare = web.Application(client_max_size=1024 * 1024)
    bare.add_routes([web.post("/v1/call/stream/{call_id}", stream)])
    asyncio.run(serve(bare))
