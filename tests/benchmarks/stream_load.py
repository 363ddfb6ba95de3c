"""The load of many packets: `python -m tests.benchmarks.stream_load PLAN` sends them over raw sockets.

A plan of kind `ndjson` posts bodies, `websocket` sends frames, `insert` has asyncpg insert the same rows by
unnest into the same table; what is printed is a StreamResult.
"""

import asyncio
import gc
import json
import re
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import asyncpg

from tests.benchmarks.load import DATA

Kind = Literal["ndjson", "websocket", "insert"]

_TIMESTAMP: Final = 1_700_000_000.25
_PACKET: Final = f'{{"sequence":%d,"data":"{DATA}","timestamp":{_TIMESTAMP}}}'
_BLOCK: Final = 64 * 1024  # bytes that are written at once
_BATCH: Final = 1_000  # rows of an insert
_INSERT: Final = """
insert into packets (call_no, stream, sequence, timestamp, data)
select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::float8[], $5::text[])
"""
_ACK: Final = re.compile(rb'"frames": (\d+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """Send *packets* to each of *calls* calls, one connection each; to *port*, or to the database *dsn*."""

    kind: Kind
    port: int = 0
    dsn: str = ""
    prefix: str
    calls: int
    packets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """How many packets were answered as stored, in how many seconds; busy is this process's share of them."""

    packets: int
    seconds: float
    busy: float


async def _post(plan: StreamPlan, call_id: str) -> Callable[[], Coroutine[Any, Any, int]]:
    body = b"".join((_PACKET % n).encode() + b"\n" for n in range(1, plan.packets + 1))
    head = (
        f"POST /v1/call/stream/{call_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", plan.port)

    async def send() -> int:
        await _write(writer, head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(f"the server answered {answer!r}")
        length = re.search(rb"Content-Length: (\d+)", answer)
        told = json.loads(await reader.readexactly(int(length[1]) if length else 0))
        writer.close()
        return int(told["packets"])

    return send


async def _stream(plan: StreamPlan, call_id: str) -> Callable[[], Coroutine[Any, Any, int]]:
    frames = b"".join(_frame((_PACKET % n).encode()) for n in range(1, plan.packets + 1))
    reader, writer = await asyncio.open_connection("127.0.0.1", plan.port)
    writer.write(
        f"GET /v1/call/stream/{call_id} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")

    async def send() -> int:
        writing = asyncio.create_task(_write(writer, frames))
        answered = await _read_acks(reader, plan.packets)
        await writing
        writer.close()
        return answered

    return send


async def _read_acks(reader: StreamReader, wanted: int) -> int:
    answered = 0
    while answered < wanted:
        told = await reader.read(_BLOCK)
        if not told or b"refused" in told:
            raise RuntimeError(f"the server told {told!r}")
        if acks := _ACK.findall(told):
            answered = int(acks[-1])
    return answered


async def _insert(plan: StreamPlan, call_ids: list[str]) -> Callable[[], Coroutine[Any, Any, int]]:
    connection = await asyncpg.connect(plan.dsn)
    numbers = [
        record["call_no"]
        for record in await connection.fetch(
            "insert into calls (call_id) select unnest($1::text[]) returning call_no", call_ids
        )
    ]
    statement = await connection.prepare(_INSERT)

    async def send() -> int:
        each = _BATCH // len(numbers)
        for first in range(1, plan.packets + 1, each):
            sequences = range(first, min(first + each, plan.packets + 1))
            rows = len(sequences) * len(numbers)
            await statement.fetch(
                [number for number in numbers for _ in sequences],
                [""] * rows,
                list(sequences) * len(numbers),
                [_TIMESTAMP] * rows,
                [DATA] * rows,
            )
        await connection.close()
        return plan.packets * len(numbers)

    return send


async def carry_out(plan: StreamPlan) -> StreamResult:
    """Connect, then send everything and wait for the answers."""
    call_ids = [f"{plan.prefix}-{number}" for number in range(plan.calls)]
    if plan.kind == "insert":
        sends = [await _insert(plan, call_ids)]
    else:
        open_one = _post if plan.kind == "ndjson" else _stream
        sends = [await open_one(plan, call_id) for call_id in call_ids]
    begin, cpu = time.perf_counter(), time.process_time()
    answered = await asyncio.gather(*(send() for send in sends))
    seconds = time.perf_counter() - begin
    busy = (time.process_time() - cpu) / seconds
    return StreamResult(packets=sum(answered), seconds=seconds, busy=busy)


async def _write(writer: StreamWriter, data: bytes) -> None:
    for start in range(0, len(data), _BLOCK):
        writer.write(data[start : start + _BLOCK])
        await writer.drain()


def _frame(payload: bytes) -> bytes:
    """Return *payload* as a client's text frame; the mask is 0, which changes nothing (RFC 6455, 5.2)."""
    return b"\x81\xfe" + len(payload).to_bytes(2) + b"\x00" * 4 + payload


if __name__ == "__main__":
    gc.disable()
    print(json.dumps(asdict(asyncio.run(carry_out(StreamPlan(**json.loads(sys.argv[1])))))))
