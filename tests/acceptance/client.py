"""A sender over real sockets: it writes its history down, and sends again what was not acknowledged."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp

from tests.acceptance.history import Content, History, Key
from tests.acceptance.server import Server

NO_ANSWER: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)

_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
_PAUSE: Final = 0.05  # between tries; a real client would heed Retry-After
_PATIENCE: Final = 45.0


class Reply(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def slug(self) -> str:
        """The last part of a problem's type."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.body["status"] == self.status, self
        return str(self.body["type"]).removeprefix("/problems/")


class Client:
    """Speaks to a server, wherever it listens at the moment."""

    def __init__(self, server: Server, history: History | None = None) -> None:
        self.history = history or History()
        self.refusals: Counter[str] = Counter()
        """How many packets and completes were refused, by the slug of the problem."""
        self._server = server
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=_TIMEOUT)

    @property
    def session(self) -> aiohttp.ClientSession:
        return self._session

    @property
    def url(self) -> str:
        return self._server.url

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        """Send one request and return the answer."""
        async with self._session.request(method, self._server.url + path, **options) as response:
            text = await response.text()
            is_json = response.content_type.endswith("json")
            body = await response.json(content_type=None) if is_json else text
            return Reply(response.status, body, response.headers)

    async def send(
        self, call_id: str, sequence: int, data: str | None = None, *, stream: str = "", at: float = 1.0
    ) -> Reply:
        """Send one packet, once."""
        key = Key(call_id, stream, sequence)
        content = Content(f"{call_id}/{stream}/{sequence}" if data is None else data, at)
        self.history.send(key, content)
        packet = {"sequence": sequence, "data": content.data, "timestamp": at, "stream": stream}
        reply = await self._post(f"/v1/call/stream/{call_id}", json=packet)
        if reply.status == 202:
            self.history.ack(key, content)
        return reply

    async def complete(self, call_id: str, **body: Any) -> Reply:
        """Complete a call, once."""
        self.history.completes_sent.add(call_id)
        options = {"json": body} if body else {}
        reply = await self._post(f"/v1/call/complete/{call_id}", **options)
        if reply.status == 202:
            self.history.completed.add(call_id)
        return reply

    async def deliver(self, call_id: str, sequence: int, *, stream: str = "", at: float = 1.0) -> Reply:
        """Send one packet until it is acknowledged."""
        return await self._until_202(lambda: self.send(call_id, sequence, stream=stream, at=at))

    async def finish(self, call_id: str, **body: Any) -> Reply:
        """Complete a call until that is acknowledged."""
        return await self._until_202(lambda: self.complete(call_id, **body))

    async def _until_202(self, attempt: Callable[[], Awaitable[Reply]]) -> Reply:
        async with asyncio.timeout(_PATIENCE):
            while True:
                try:
                    reply = await attempt()
                except NO_ANSWER:
                    reply = None
                if reply is not None and reply.status == 202:
                    return reply
                assert reply is None or reply.status in (429, 503), reply
                await asyncio.sleep(_PAUSE)

    async def _post(self, path: str, **options: Any) -> Reply:
        reply = await self.request("POST", path, **options)
        if reply.status != 202:
            self.refusals[reply.slug] += 1
            assert reply.status not in (429, 503) or int(reply.headers["Retry-After"]) >= 1, reply
        return reply

    async def call(self, call_id: str) -> Any:
        """Return what the server tells of a call."""
        reply = await self.request("GET", f"/v1/call/{call_id}")
        assert reply.status == 200, reply
        return reply.body

    async def close(self) -> None:
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
