"""The door: how many connections there may be, and what one too many is told."""

import asyncio
from asyncio import BaseProtocol, BaseTransport, Protocol, TimerHandle, WriteTransport
from collections.abc import Callable
from typing import Final, cast

from aiohttp import web

_PATIENCE: Final = 1.0
_BODY: Final = (
    b'{"type":"/problems/overloaded","title":"The server is full","status":503,'
    b'"detail":"the server is full (too many connections); send it again"}'
)
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


def make_door(runner: web.AppRunner, limit: int) -> Callable[[], BaseProtocol]:
    """Return what makes the protocol of a new connection: *runner*'s, or a refusal if it has *limit*."""
    server = runner.server
    if server is None:
        raise RuntimeError("set the runner up first")
    return lambda: server() if len(server.connections) < limit else _Full()


class _Full(Protocol):
    """Answers 503 to whatever comes first."""

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = cast("WriteTransport", transport)
        self._timer: TimerHandle = asyncio.get_running_loop().call_later(_PATIENCE, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_FULL)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
