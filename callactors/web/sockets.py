"""What the WebSockets have in common."""

import asyncio
from typing import Final

from aiohttp import web

from callactors.errors import UpgradeRequired

SUBPROTOCOL: Final = "callactors.v1"
HEARTBEAT: Final = 20.0
SEND_TIMEOUT: Final = 10.0  # how long a peer may take to read what waits for it
CLOSE_TIMEOUT: Final = 1.0


async def accept(request: web.Request, *, max_message: int) -> web.WebSocketResponse:
    """Return the WebSocket that *request* asks for; a message of more than *max_message* bytes closes it.

    Raises:
        UpgradeRequired: it asks for none.
    """
    ws = web.WebSocketResponse(
        heartbeat=HEARTBEAT,
        timeout=CLOSE_TIMEOUT,
        compress=False,
        max_msg_size=max_message,
        protocols=(SUBPROTOCOL,),
    )
    if not ws.can_prepare(request):
        raise UpgradeRequired
    await ws.prepare(request)
    return ws


async def close(request: web.Request, ws: web.WebSocketResponse, code: int, reason: bytes) -> None:
    """Close *ws*; a peer that does not read is not waited for."""
    abort_soon(request)
    await ws.close(code=code, message=reason)


def abort_soon(request: web.Request) -> None:
    """Free the connection after the time that closing may take: closing waits until the peer has read."""
    asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, abort, request)


def abort(request: web.Request) -> None:
    """Free the connection at once."""
    if request.transport is not None:
        request.transport.abort()
