"""A little server for simulated calls: it keeps what comes, and tells of it as the real one does.

It reads messages by rules of its own, and knows nothing of how they are made.
"""

import asyncio
import json
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

IDS = ("callSid", "call_control_id", "callId", "call_sid", "call_id", "channel_id", "uuid")
STREAMS = ("streamSid", "stream_id", "streamId", "stream_sid")


@dataclass
class Heard:
    """What came on one connection."""

    path: str
    subprotocol: str | None = None
    messages: list[str | bytes] = field(default_factory=list)
    close_code: int | None = None

    @property
    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.messages if isinstance(message, str)]

    def find(self, names: tuple[str, ...]) -> str | None:
        """Return the first member of one of *names* in how it began, at the top or one level below."""
        for text in (json.loads(message) for message in self.messages[:2] if isinstance(message, str)):
            for part in (text, *(value for value in text.values() if isinstance(value, dict))):
                for name in names:
                    if name in part:
                        return str(part[name])
        return None


class PhoneServer:
    """Its *statuses* are answered, one a request for a call, before what is known of the call."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.statuses: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.close_after: int | None = None
        self.forgets = 0
        self.has_heard = asyncio.Event()
        self.app = web.Application()
        for path in ("/v1/media", "/v1/media/binary", "/v1/media/binary/{key}", "/v1/media/{key}"):
            self.app.router.add_get(path, self._media)
        self.app.router.add_get("/v1/call/{call_id}", self._call)

    async def _media(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=("audio.jambonz.org", "audio.drachtio.org"))
        await ws.prepare(request)
        heard = Heard(request.path, ws.ws_protocol)
        self.heard.append(heard)
        async for message in ws:
            assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY)
            heard.messages.append(message.data)
            self.has_heard.set()
            if len(heard.messages) == self.close_after:
                await ws.close(code=1013)
        heard.close_code = ws.close_code
        return ws

    async def _call(self, request: web.Request) -> web.Response:
        self.asked.append((request.match_info["call_id"], request.headers.get("Authorization")))
        if self.statuses:
            return web.Response(status=self.statuses.pop())
        known = [heard for heard in self.heard if heard.find(IDS) == request.match_info["call_id"]]
        if not known:
            return web.Response(status=404)
        (heard,) = known
        return web.json_response(self._tell(heard))

    def _tell(self, heard: Heard) -> dict[str, Any]:
        sequences = set(number(heard)[self.forgets :])
        missing = sorted(set(range(1, max(sequences) + 1)) - sequences)
        has_stopped = any(text.get("event") == "stop" for text in heard.texts)
        is_dropped = heard.close_code == 1006 and not has_stopped
        is_over = has_stopped or heard.close_code is not None
        return {
            "state": "PROCESSING_AI" if is_over else "IN_PROGRESS",
            "packets": len(sequences),
            "end_reason": "stream_dropped" if is_dropped else "stream_stopped",
            "streams": {
                heard.find(STREAMS) or "": {
                    "missing": join(missing),
                    "missing_count": len(missing),
                }
            },
        }


@asynccontextmanager
async def serving(phone: PhoneServer) -> AsyncIterator[str]:
    """Serve *phone* at the URL that is given; what comes before a cut is read, as a real server does."""
    runner = web.AppRunner(phone.app)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await web.SockSite(runner, listener).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await runner.cleanup()


def number(heard: Heard) -> list[int]:
    """Return the sequences in the order of their coming; where there are none, they are counted."""
    if "binary" in heard.path:
        return list(range(1, len(heard.messages) + 1))
    numbered = (text.get("sequenceNumber", text.get("sequence_number")) for text in heard.texts)
    return [int(sequence) for sequence in numbered if sequence is not None]


def join(missing: list[int]) -> list[list[int]]:
    """Return the ranges that *missing* makes up."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place, sequence in enumerate(missing):
        groups[sequence - place].append(sequence)
    return [[group[0], group[-1]] for group in groups.values()]
