"""A supervisor over a real WebSocket: it keeps every frame it gets, in order."""

import asyncio
import json
from collections.abc import Set
from typing import Any, Final

import aiohttp

from tests.acceptance.client import Client

_PATIENCE: Final = 30.0


class Supervisor:
    """Watches a server. It can come back with the cursor of what it saw last."""

    def __init__(self, client: Client) -> None:
        self.frames: list[dict[str, Any]] = []
        self._ended: set[str] = set()
        self._client = client
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    @property
    def events(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == "event"]

    @property
    def ended(self) -> Set[str]:
        """The calls that were seen archived or failed."""
        return self._ended

    @property
    def cursor(self) -> str | None:
        """Where to go on: the last cursor that was told."""
        return next((frame["cursor"] for frame in reversed(self.frames) if "cursor" in frame), None)

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code if self._socket is not None else None

    async def connect(self, since: str | None = None, **query: str) -> "Supervisor":
        parameters = query if since is None else {**query, "since": since}
        url = f"{self._client.url}/ws/supervisor"
        self._socket = await self._client.session.ws_connect(url, params=parameters)
        return self

    async def next(self) -> dict[str, Any] | None:
        """Return the next frame, or None if the socket was closed."""
        assert self._socket is not None, "connect first"
        async with asyncio.timeout(_PATIENCE):
            message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        frame: dict[str, Any] = json.loads(message.data)
        self.frames.append(frame)
        if frame.get("state") in ("ARCHIVED", "FAILED"):
            self._ended.add(frame["call_id"])
        return frame

    async def wait_for(self, state: str, *call_ids: str) -> None:
        """Return when each of *call_ids* was seen in *state*."""
        missing = set(call_ids) - {e["call_id"] for e in self.events if e["state"] == state}
        while missing:
            frame = await self.next()
            assert frame is not None, (
                f"closed with {self.close_code} before {sorted(missing)[:5]} are {state}"
            )
            if frame.get("state") == state:
                missing.discard(frame["call_id"])

    async def wait_for_frame(self, kind: str) -> dict[str, Any]:
        """Return the next frame of this type."""
        while True:
            frame = await self.next()
            assert frame is not None, f"closed with {self.close_code} before {kind}"
            if frame["type"] == kind:
                return frame

    async def wait_for_end(self, *call_ids: str) -> None:
        """Return when each of *call_ids* was seen archived or failed."""
        while missing := set(call_ids) - self.ended:
            assert await self.next() is not None, f"closed with {self.close_code}, {len(missing)} not ended"

    async def read_to_close(self) -> int | None:
        """Read until the server closes, and return its close code."""
        while await self.next() is not None:
            pass
        return self.close_code

    def abort(self) -> None:
        """Be gone without a word."""
        assert self._socket is not None, "connect first"
        self._socket._response.close()

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
