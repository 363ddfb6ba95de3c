"""What the tests of processors share: calls that were not stored, and a provider that does as it is told."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from callactors.packets import EndReason, PacketKind
from callactors.processors.contract import CallRecord
from callactors.processors.http import HttpOptions, HttpProcessor
from callactors.retry import Done, Outcome
from callactors.store.contents import StoredPacket

NOW: Final = 1_767_225_600.0  # 2026-01-01
MULAW: Final = {"media_format": {"encoding": "audio/x-mulaw", "sample_rate": 8_000, "channels": 1}}
CANARY: Final = "4111 1111 1111 1111"
JSON: Mapping[str, Any] = {"transcript": "hello", "sentiment": "positive"}


def make_packets(number: int, stream: str = "", *, data: str = "eA==") -> list[StoredPacket]:
    return [StoredPacket(stream, n, PacketKind.MEDIA, n / 50, data) for n in range(1, number + 1)]


def make_call(packets: Sequence[StoredPacket] = (), *, page: int = 1_000, **more: Any) -> CallRecord:
    """A call with *packets*, which are read in pages of *page*."""

    async def read_page(stream: str, after: int) -> tuple[Sequence[StoredPacket], int | None]:
        rest = [p for p in packets if p.stream == stream and p.sequence > after]
        return rest[:page], rest[page - 1].sequence if len(rest) > page else None

    told: dict[str, Any] = {
        "call_id": "c",
        "generation": 1,
        "attempt": 1,
        "deadline": 20.0,
        "packet_count": len(packets),
        "streams": tuple(sorted({p.stream for p in packets})),
        "end_reason": EndReason.API,
        "started_at": datetime(2026, 1, 1, 12, tzinfo=UTC),
        "completed_at": datetime(2026, 1, 1, 13, tzinfo=UTC),
        "read_page": read_page,
    }
    return CallRecord(**{**told, **more})


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came; *is_whole* unless it broke off."""

    line: str
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Talk:
    """One connection, as the provider sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_head(self) -> tuple[str, Mapping[str, str]]:
        line, *rest = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        return line, {name.lower(): value for name, value in (header.split(": ", 1) for header in rest)}

    async def read_chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)

    async def read_request(self) -> Request:
        line, headers = await self.read_head()
        body = bytearray()
        try:
            if "content-length" in headers:
                body += await self.reader.readexactly(int(headers["content-length"]))
            else:
                async for chunk in self.read_chunks():
                    body += chunk
        except (asyncio.IncompleteReadError, ConnectionError):
            return Request(line, headers, bytes(body), is_whole=False)
        return Request(line, headers, bytes(body), is_whole=True)

    def answer(self, status: int, body: bytes | Mapping[str, Any] = b"", *headers: str) -> None:
        """Answer, and close the connection behind it."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        length = f"Content-Length: {len(body)}"
        head = "\r\n".join([f"HTTP/1.1 {status} Told", length, "Connection: close", *headers])
        self.writer.write(f"{head}\r\n\r\n".encode() + body)

    def reset(self) -> None:
        self.writer.transport.abort()


Script: TypeAlias = Callable[[Talk], Awaitable[object]]


@dataclass(slots=True)
class Provider:
    """A provider that listens; *talks* says how many connections there were."""

    url: str
    requests: asyncio.Queue[Request]
    talks: int = 0
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)


@asynccontextmanager
async def provide(script: Script) -> AsyncIterator[Provider]:
    """A provider on 127.0.0.1 that runs *script* with each connection, and closes it behind that.

    A Request that the script returns is put into `requests`.
    """
    provider = Provider("", asyncio.Queue())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        provider.tasks.add(task)
        provider.talks += 1
        try:
            told = await script(Talk(reader, writer))
            if isinstance(told, Request):
                provider.requests.put_nowait(told)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone, as it may
        finally:
            writer.close()
            provider.tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/calls?team=a"
    try:
        yield provider
    finally:
        server.close()
        for task in list(provider.tasks):
            task.cancel()
        await asyncio.gather(*provider.tasks, return_exceptions=True)


def answering(status: int, body: bytes | Mapping[str, Any] = b"", *headers: str) -> Script:
    """A script that reads a request and answers it so."""

    async def script(talk: Talk) -> Request:
        request = await talk.read_request()
        talk.answer(status, body, *headers)
        return request

    return script


@asynccontextmanager
async def asking(url: str, **options: Any) -> AsyncIterator[HttpProcessor]:
    chosen = {"is_private_allowed": True, **options}
    processor = HttpProcessor(HttpOptions(url=url, **chosen), clock=lambda: NOW)
    try:
        yield processor
    finally:
        await processor.close()


async def ask(script: Script, call: Any = None, **options: Any) -> Outcome:
    """Return what comes of one call with a provider that does *script*."""
    async with provide(script) as provider, asking(provider.url, **options) as processor:
        return await processor(call or make_call(make_packets(3)))


async def sent(call: Any, answer: Mapping[str, Any] = JSON, **options: Any) -> Request:
    """Return the request that *call* makes."""
    async with provide(answering(200, answer)) as provider, asking(provider.url, **options) as processor:
        assert isinstance(await processor(call), Done)
        return await provider.requests.get()


def media(*audio: bytes, stream: str = "MZ1", track: str | None = None) -> list[StoredPacket]:
    packets = []
    for sequence, piece in enumerate(audio, 1):
        data = b64encode(piece).decode()
        if track is not None:
            data = json.dumps({"track": track, "payload": data})
        packets.append(StoredPacket(stream, sequence, PacketKind.MEDIA, sequence / 50, data))
    return packets
