"""Send lines of standard input as packets of a call, each once, across cuts: stream.py CALL_ID [SERVER]."""

import asyncio
import json
import sys
import time

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse


async def send(ws: ClientWebSocketResponse, frames: asyncio.Queue[str], unacked: list[str]) -> None:
    for frame in list(unacked):  # what the connection before has sent
        await ws.send_str(frame)
    while True:
        unacked.append(await frames.get())
        await ws.send_str(unacked[-1])


async def receive(ws: ClientWebSocketResponse, frames: asyncio.Queue[str], unacked: list[str]) -> None:
    acked = 0
    async for message in ws:
        told = message.json()
        if told["type"] == "refused":
            print("refused:", told["problem"]["detail"], file=sys.stderr)
            if told["problem"]["status"] in (429, 503):
                break  # the server is busy: the next connection sends it again
        while told["type"] == "ack" and acked < told["frames"]:
            acked += 1
            unacked.pop(0)
            frames.task_done()
    raise ClientError("the connection has ended")


async def run(url: str, frames: asyncio.Queue[str], unacked: list[str]) -> None:
    async with ClientSession() as session:
        while True:
            try:
                async with session.ws_connect(url, heartbeat=20) as ws, asyncio.TaskGroup() as group:
                    group.create_task(send(ws, frames, unacked))
                    group.create_task(receive(ws, frames, unacked))
            except* (ClientError, ConnectionError) as away:
                print("away:", away.exceptions[0], file=sys.stderr)
            await asyncio.sleep(1)


async def main(call_id: str, server: str = "ws://127.0.0.1:8000") -> None:
    frames, sequence = asyncio.Queue[str](), 0
    running = asyncio.create_task(run(f"{server}/v1/call/stream/{call_id}", frames, []))
    while line := await asyncio.to_thread(sys.stdin.readline):
        sequence += 1
        frames.put_nowait(json.dumps({"sequence": sequence, "data": line.rstrip(), "timestamp": time.time()}))
    await frames.join()
    frames.put_nowait('{"type": "complete"}')  # behind all others, which are stored
    await frames.join()
    running.cancel()
    print(f"{sequence} packets are stored", file=sys.stderr)


asyncio.run(main(*sys.argv[1:]))
