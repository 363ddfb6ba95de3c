"""The load: calls that come in three ways, rest, go on, and are completed or forgotten, at a steady rate."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, Self

import aiohttp

from tests.acceptance.client import NO_ANSWER
from tests.acceptance.server import Server

_WAYS: Final = ("single",) * 6 + ("body", "socket")
_PARTS: Final = (2, 4)
_PART: Final = (5, 15)  # packets
_REST: Final = 3.0  # seconds at most between the parts of a call; a third are longer than it stays in memory
_FORGOTTEN: Final = 0.05  # of the calls: nobody completes them
_PER_CALLER: Final = (
    5  # packets a second; more callers than the rate takes, so that it is the rate that counts
)
_PAUSE: Final = 0.2  # before what was not stored is sent again
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)


class Churn:
    """Callers that make one call after the other until `end`; together they send *rate* packets a second.

    What is not acknowledged is sent again: of each call the first packets without a hole are.
    """

    def __init__(self, server: Server, rate: float) -> None:
        self.acked: dict[str, int] = {}
        """How many packets of each call were acknowledged, with sequences from 1."""
        self.setbacks: Counter[str] = Counter()
        """How often something was not answered as it should be, by what came instead."""
        self._server = server
        self._rate = rate
        self._made = 0
        self._turn = 0.0
        self._is_over = False

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def run(self) -> None:
        """Make calls until `end` was called and every call has got to its end."""
        async with asyncio.TaskGroup() as callers:
            for number in range(round(self._rate / _PER_CALLER)):
                callers.create_task(self._make_calls(random.Random(number)))

    def end(self) -> None:
        """Make no new calls."""
        self._is_over = True

    async def send(self, call_id: str, sequence: int) -> None:
        """Send one packet by itself until it is acknowledged."""
        path = f"/v1/call/stream/{call_id}"
        await self._until_done(partial(self._post, path, json=_packet(call_id, sequence)))
        self.acked[call_id] = sequence

    async def complete(self, call_id: str) -> None:
        """Complete a call until that is acknowledged."""
        last = {"last_sequence": {"": self.acked[call_id]}}
        await self._until_done(partial(self._post, f"/v1/call/complete/{call_id}", json=last))

    async def _make_calls(self, rng: random.Random) -> None:
        await asyncio.sleep(rng.uniform(0, _REST))
        while not self._is_over:
            self._made += 1
            await self._make_call(f"call-{self._made:07}", rng)

    async def _make_call(self, call_id: str, rng: random.Random) -> None:
        way = rng.choice(_WAYS)
        for _ in range(rng.randint(*_PARTS)):
            first = self.acked.get(call_id, 0) + 1
            await self._send_part(call_id, way, range(first, first + rng.randint(*_PART)))
            if not self._is_over:
                await asyncio.sleep(rng.uniform(0, _REST))
        if rng.random() >= _FORGOTTEN:
            await self.complete(call_id)

    async def _send_part(self, call_id: str, way: str, sequences: range) -> None:
        if way == "single":
            for sequence in sequences:
                await self._wait_for_turn(1)
                await self.send(call_id, sequence)
            return
        await self._wait_for_turn(len(sequences))
        send = self._send_body if way == "body" else self._send_frames
        await self._until_done(partial(send, call_id, sequences))
        self.acked[call_id] = sequences[-1]

    async def _wait_for_turn(self, packets: int) -> None:
        now = asyncio.get_running_loop().time()
        self._turn = max(self._turn, now) + packets / self._rate
        await asyncio.sleep(self._turn - now)

    async def _until_done(self, attempt: Callable[[], Awaitable[str | None]]) -> None:
        """Make an *attempt* until it returns None: what came instead, otherwise."""
        while True:
            try:
                setback = await attempt()
            except NO_ANSWER as error:
                setback = type(error).__name__
            if setback is None:
                return
            self.setbacks[setback] += 1
            await asyncio.sleep(_PAUSE)

    async def _post(self, path: str, **options: Any) -> str | None:
        async with self._session.post(self._server.url + path, **options) as response:
            await response.read()
            return None if response.status == 202 else str(response.status)

    async def _send_body(self, call_id: str, sequences: Iterable[int]) -> str | None:
        lines = "".join(f"{json.dumps(_packet(call_id, sequence))}\n" for sequence in sequences)
        headers = {"Content-Type": "application/x-ndjson"}
        return await self._post(f"/v1/call/stream/{call_id}", data=lines, headers=headers)

    async def _send_frames(self, call_id: str, sequences: range) -> str | None:
        url = f"{self._server.url}/v1/call/stream/{call_id}"
        async with self._session.ws_connect(url) as ws:
            for sequence in sequences:
                await ws.send_str(json.dumps(_packet(call_id, sequence)))
            async for message in ws:
                told = json.loads(message.data)
                if told["type"] != "ack":
                    return str(told["type"])
                if told["frames"] == len(sequences):
                    return None
            return f"closed with {ws.close_code}"


def _packet(call_id: str, sequence: int) -> dict[str, Any]:
    return {"sequence": sequence, "data": f"{call_id}/{sequence}", "timestamp": float(sequence)}
