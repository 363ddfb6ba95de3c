"""What memory a long body of NDJSON takes: the growth of the server's peak, whatever the body's size."""

import base64
import random
import re
import time
from asyncio import StreamReader, StreamWriter, open_connection
from typing import Any, Final, NamedTuple

import asyncpg

from tests.benchmarks.databases import worn_postgres
from tests.benchmarks.machine import one_core_set_apart, peak_memory, reset_peak_memory, versions
from tests.benchmarks.processes import Server, callactors, serving
from tests.benchmarks.report import Options, Report
from tests.benchmarks.sender import packet, send

_LIMIT: Final = 32.0  # MiB
_MIB: Final = 1024 * 1024
_SHORT, _LONG = 25_000, 250_000  # packets
_TOGETHER: Final = 16  # lines that are written at once
_CALL: Final = "body"

# Half a second of G.711 in base64: nothing that PostgreSQL could compress.
_DATA: Final = base64.b64encode(random.Random(1).randbytes(3_072)).decode()
_LINE: Final = f'{{"sequence":%12d,"data":"{_DATA}","timestamp":1700000000.25}}\n'.encode()
_STORED: Final = (
    "select count(*), sum(length(data)) from packets join calls using (call_no) where call_id = $1"
)


class _Seen(NamedTuple):
    """What was measured; peaks of the resident set in bytes, before the body and behind it."""

    packets: int
    answered: int
    size: int
    seconds: float
    before: int
    after: int
    stored: int
    stored_size: int

    @property
    def growth(self) -> float:
        """In MiB."""
        return (self.after - self.before) / _MIB


async def body(options: Options) -> Report:
    """Send one body to one call, and read the server's peak from /proc."""
    with one_core_set_apart() as core:
        async with (
            worn_postgres() as postgres,
            serving(callactors(), core, {"DATABASE_URL": postgres.dsn}) as server,
        ):
            seen = await _measure(server, postgres.dsn, _LONG if options.is_long else _SHORT)
    parts: dict[str, Any] = {
        "limit_mib": _LIMIT,
        "growth_mib": round(seen.growth, 2),
        **seen._asdict(),
        "options": {"data_bytes": len(_DATA)},
        "versions": versions(),
    }
    return Report(
        name="body",
        ratio=seen.growth / _LIMIT,
        wanted=1.0,
        is_limit=True,
        problems=_problems(seen),
        lines=_table(seen),
        parts=parts,
    )


async def _measure(server: Server, dsn: str, packets: int) -> _Seen:
    await send(server.port, [[packet("first")]])  # what the first packet of all loads does not count
    reset_peak_memory(server.pid)
    before, begin = peak_memory(server.pid), time.perf_counter()
    answered = await post_lines(server.port, packets)
    seconds, after = time.perf_counter() - begin, peak_memory(server.pid)
    connection = await asyncpg.connect(dsn)
    try:
        stored, stored_size = await connection.fetchrow(_STORED, _CALL, timeout=600) or (0, 0)
    finally:
        await connection.close()
    return _Seen(
        packets=packets,
        answered=answered,
        size=packets * len(_LINE % 0),
        seconds=seconds,
        before=before,
        after=after,
        stored=stored,
        stored_size=stored_size,
    )


async def post_lines(port: int, packets: int) -> int:
    """Post so many lines in one body, and return how many packets the 202 tells."""
    reader, writer = await open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"POST /v1/call/stream/{_CALL} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Content-Type: application/x-ndjson\r\n"
            f"Content-Length: {packets * len(_LINE % 0)}\r\n\r\n".encode()
        )
        await _write(writer, packets)
        return await _read(reader)
    finally:
        writer.close()


async def _write(writer: StreamWriter, packets: int) -> None:
    for start in range(1, packets + 1, _TOGETHER):
        numbers = range(start, min(start + _TOGETHER, packets + 1))
        writer.write(b"".join([_LINE % number for number in numbers]))
        await writer.drain()


async def _read(reader: StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    told = await reader.readexactly(int(re.findall(rb"Content-Length: (\d+)", head)[0]))
    if not head.startswith(b"HTTP/1.1 202"):
        raise RuntimeError(f"the server answered {told!r}")
    return int(re.findall(rb'"packets": ?(\d+)', told)[0])


def _problems(seen: _Seen) -> list[str]:
    wanted = seen.packets * len(_DATA)
    if (seen.answered, seen.stored, seen.stored_size) == (seen.packets, seen.packets, wanted):
        return []
    return [
        f"of {seen.packets} packets {seen.answered} were answered and {seen.stored} are stored,"
        f" of {wanted} characters {seen.stored_size}"
    ]


def _table(seen: _Seen) -> list[str]:
    return [
        f"body: {seen.packets:,} packets, {seen.size / _MIB:,.0f} MiB in one body to one call",
        f"the server's peak (VmHWM) before {seen.before / _MIB:.1f}, behind {seen.after / _MIB:.1f} MiB:"
        f" grown by {seen.growth:.1f} (at most {_LIMIT:g})",
        f"{seen.seconds:.1f} s, {seen.size / _MIB / seen.seconds:.1f} MiB and"
        f" {seen.packets / seen.seconds:,.0f} packets a second; {seen.stored:,} are stored",
        ", ".join(f"{name} {version}" for name, version in versions().items()),
    ]
