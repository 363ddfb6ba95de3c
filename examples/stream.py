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
        self._is_completed = False

    def put(self, frame: dict[str, object]) -> None:
        self._unacked.append(json.dumps(frame))
        self._has_news.set()

    def end(self) -> None:
        self._is_over = True
        self._has_news.set()

    async def run(self) -> None:
        """Send until all is acked."""
        async with aiohttp.ClientSession() as session:
            while self._unacked or not self._is_completed:
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
                if self._unacked or not self._is_completed:
                    await asyncio.sleep(1)

    async def _send(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            while self._sent < len(self._unacked):
                frame = self._unacked[self._sent]
                self._sent += 1
                await ws.send_str(frame)
            if self._is_over and not self._unacked and not self._is_completed:
                self._is_completed = True
                self.put({"type": "complete"})  # the call ends when all before is stored
                continue
            self._has_news.clear()
            await self._has_news.wait()

    async def _receive(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        answered = 0
        refused: dict[int, dict[str, object]] = {}
        async for message in ws:
            told = json.loads(message.data)
            if told["type"] == "refused":
                refused[told["frame"]] = told["problem"]
            elif told["type"] == "ack":
                if refused:
                    await asyncio.sleep(1)  # the server is busy, or something is wrong
                for number in range(answered + 1, told["frames"] + 1):
                    self._settle(refused.pop(number, None))
                answered = told["frames"]
                if self._is_completed and not self._unacked:
                    return

    def _settle(self, problem: dict[str, object] | None) -> None:
        """Let the oldest frame go, or send it again behind the others if the server was only busy."""
        frame = self._unacked.popleft()
        self._sent -= 1
        self._has_news.set()
        if problem is not None and problem["status"] in (429, 503):
            self._unacked.append(frame)
        elif problem is not None:
            print("refused:", frame, problem, file=sys.stderr)


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
