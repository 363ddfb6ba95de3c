"""Sends requests for benchmarks that need not do so cheaply: one after the other on each connection."""

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tests.benchmarks.load import DATA

_ACCEPTED: Final = b"HTTP/1.1 202"
READY: Final = b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def packet(call_id: str) -> bytes:
    """Return the request with the first packet of a call."""
    return post(f"/v1/call/stream/{call_id}", {"sequence": 1, "data": DATA, "timestamp": 1700000000.25})


def complete(call_id: str, **told: Any) -> bytes:
    """Return the request that completes a call."""
    return post(f"/v1/call/complete/{call_id}", told)


def post(path: str, body: Any) -> bytes:
    """Return a POST of *body* as JSON."""
    content = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n{content}"
    ).encode()


async def send(port: int, streams: Sequence[Iterable[bytes]]) -> Counter[int]:
    """Send each stream of requests over a connection of its own, and count the statuses of the answers."""
    statuses: Counter[int] = Counter()
    async with asyncio.TaskGroup() as group:
        for requests in streams:
            group.create_task(_send(port, requests, statuses))
    return statuses


async def pour(port: int, streams: Sequence[Sequence[bytes]]) -> None:
    """Send each stream over a connection of its own without waiting for answers, all of which must be 202."""
    async with asyncio.TaskGroup() as group:
        for requests in streams:
            group.create_task(_pour(port, requests))


async def ask(port: int, request: bytes) -> Any:
    """Return the JSON that answers *request*."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        _, body = await exchange(reader, writer, request)
    finally:
        writer.close()
    return json.loads(body)


def deal(requests: Sequence[bytes], connections: int = 64) -> list[Sequence[bytes]]:
    """Return *requests* as a stream for each of some connections."""
    return [requests[number::connections] for number in range(min(connections, len(requests)))]


async def _pour(port: int, requests: Sequence[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"".join(requests))
        for _ in requests:
            await reader.readuntil(_ACCEPTED)
    finally:
        writer.close()


async def _send(port: int, requests: Iterable[bytes], statuses: Counter[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for request in requests:
            status, _ = await exchange(reader, writer, request)
            statuses[status] += 1
    finally:
        writer.close()


async def exchange(reader: StreamReader, writer: StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Send *request* and return the status and the body of its answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.index(b"Content-Length: ") + 16
    return int(head[9:12]), await reader.readexactly(int(head[length : head.index(b"\r", length)]))
