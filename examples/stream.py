"""Send lines of standard input as packets of one call over a WebSocket, each once, across cuts."""

import argparse
import asyncio
import json
import sys
import time
from collections import deque

import aiohttp


class Sender:
    """Keeps what is not acked, and sends it again on the next connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._unacked: deque[str] = deque()
        self._sent = 0  # how many of the unacked ones went out on this connection
        self._has_news = asyncio.Event()
        self._is_over = False

    def put(self, frame: dict[str, object]) -> None:
        self._unacked.append(json.dumps(frame))
        self._has_news.set()

    def end(self) -> None:
        self.put({"type": "complete"})
        self._is_over = True

    async def run(self) -> None:
        """Send until all is acked."""
        async with aiohttp.ClientSession() as session:
            while self._unacked or not self._is_over:
                try:
                    async with session.ws_connect(self._url, heartbeat=20) as ws:
                        self._sent = 0
                        sending = asyncio.create_task(self._send(ws))
                        try:
                            await self._receive(ws)
                        finally:
                            sending.cancel()
                except aiohttp.ClientError as error:
                    print("away:", error, file=sys.stderr)
                if self._unacked or not self._is_over:
                    await asyncio.sleep(1)

    async def _send(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            while self._sent < len(self._unacked):
                frame = self._unacked[self._sent]
                self._sent += 1
                await ws.send_str(frame)
            self._has_news.clear()
            await self._has_news.wait()

    async def _receive(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        acked = 0
        async for message in ws:
            told = json.loads(message.data)
            if told["type"] != "ack":
                print(told, file=sys.stderr)  # a real sender repeats what was refused with status 429 or 503
                continue
            for _ in range(told["frames"] - acked):
                self._unacked.popleft()
                self._sent -= 1
            acked = told["frames"]
            if self._is_over and not self._unacked:
                return


async def main(url: str) -> None:
    sender = Sender(url)
    running = asyncio.create_task(sender.run())
    sequence = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        sequence += 1
        sender.put({"sequence": sequence, "data": line.rstrip("\n"), "timestamp": time.time()})
    sender.end()
    await running
    print(f"{sequence} packets are stored", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("call_id")
    parser.add_argument("--server", default="ws://127.0.0.1:8000")
    arguments = parser.parse_args()
    asyncio.run(main(f"{arguments.server}/v1/call/stream/{arguments.call_id}"))
