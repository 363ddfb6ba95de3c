"""What the WebSockets have in common."""

import asyncio
import select
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from aiohttp import WSMessage, WSMsgType, web

from callactors.errors import UpgradeRequired

SUBPROTOCOL: Final = "callactors.v1"
HEARTBEAT: Final = 20.0
SEND_TIMEOUT: Final = 10.0  # how long a peer may take to read what waits for it
CLOSE_TIMEOUT: Final = 1.0
_READ_SIZE: Final = 4 * 1024
HEARTBEATS: Final = frozenset({WSMsgType.PING, WSMsgType.PONG})


async def accept(
    request: web.Request,
    *,
    max_message: int,
    protocols: Sequence[str] = (SUBPROTOCOL,),
    autoclose: bool = True,
) -> web.WebSocketResponse:
    """Return the WebSocket that *request* asks for; a message of more than *max_message* bytes closes it.

    Of *protocols*, the first that it offers too is answered. Without *autoclose* its close is to be answered
    by `close`, before which `close_code` is its own.

    Raises:
        UpgradeRequired: it asks for none.
    """
    ws = web.WebSocketResponse(
        heartbeat=HEARTBEAT,
        timeout=CLOSE_TIMEOUT,
        autoping=False,
        autoclose=autoclose,
        compress=False,
        max_msg_size=max_message,
        protocols=protocols,
    )
    if not ws.can_prepare(request):
        raise UpgradeRequired
    await ws.prepare(request)
    _read_little_at_once(request)
    return ws


def _read_little_at_once(request: web.Request) -> None:
    """Let others come in between: what asyncio reads in one go, up to 256 KiB, is parsed in one go too."""
    with suppress(AttributeError):  # uvloop's transports have no such limit
        request.transport.max_size = _READ_SIZE  # type: ignore[union-attr]  # it is that of a socket


async def read_messages(request: web.Request, ws: web.WebSocketResponse) -> AsyncIterator[WSMessage]:
    """Yield what comes, pings and pongs too; pings are answered, and others come in between.

    aiohttp would answer all pings that are there at once, however many. Who reads no answer is cut off.
    """
    async for message in ws:
        if message.type is WSMsgType.PING:
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await ws.pong(message.data)
            except TimeoutError:
                abort(request)
                return
        if message.type in HEARTBEATS:
            await asyncio.sleep(0)
        yield message


async def close(request: web.Request, ws: web.WebSocketResponse, code: int, reason: bytes) -> None:
    """Close *ws*; a peer that does not read is not waited for."""
    abort_soon(request)
    await ws.close(code=code, message=reason)


def has_gone(request: web.Request) -> bool:
    """Whether who asked has hung up, so that an answer is not worth its work."""
    if request.transport is None:
        return True
    connection = request.transport.get_extra_info("socket")
    if connection is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(
        connection, 0
    )  # errors and hang-ups are told in any case; who only ends writing has not gone
    return bool(poll.poll(0))


def stop_reading(request: web.Request) -> None:
    """Look at nothing more that comes: a peer that is to go may send faster than its frames are parsed."""
    if request.transport is not None:
        request.transport.pause_reading()


def abort_soon(request: web.Request) -> None:
    """Free the connection after the time that closing may take: closing waits until the peer has read."""
    asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, abort, request)


def abort(request: web.Request) -> None:
    """Free the connection at once."""
    if request.transport is not None:
        request.transport.abort()
