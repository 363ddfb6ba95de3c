"""Supervisors watch: every transition as one text frame, from the feed, never from the request path."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from aiohttp import WSCloseCode, web

from callactors.errors import FieldError, InvalidFields, StorageUnavailable
from callactors.feed import TOPIC, Feed, FeedEvent
from callactors.hub import Ending, Subscription
from callactors.store.events import Cursor
from callactors.web.keys import get_system
from callactors.web.problems import answering

log = logging.getLogger(__name__)

_HEARTBEAT: Final = 20.0
_SEND_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 1.0
_MAX_MESSAGE: Final = 64 * 1024


@answering
async def supervisor(request: web.Request) -> web.WebSocketResponse:
    """Send transitions from now on, or from behind the cursor `since`."""
    system = get_system(request)
    system.check_not_draining()
    since = _since(request)
    ws = web.WebSocketResponse(
        heartbeat=_HEARTBEAT, timeout=_CLOSE_TIMEOUT, compress=False, max_msg_size=_MAX_MESSAGE
    )
    subscription = system.hub.subscribe(TOPIC, on_end=lambda ending: _cut(request, ending))
    events = _events(system.feed, subscription, since, system.feed.cursor)
    try:
        await ws.prepare(request)
        sender = asyncio.create_task(_send(ws, request, events))
        try:
            async for _ in ws:  # what clients say is ignored; reading serves pings and the close
                pass
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
    finally:
        subscription.close()
    return ws


def _since(request: web.Request) -> Cursor | None:
    text = request.query.get("since")
    if text is None:
        return None
    cursor = Cursor.parse(text)
    if cursor is None:
        raise InvalidFields([FieldError("/since", "invalid_cursor", "send a cursor as an event told it")])
    return cursor


def _cut(request: web.Request, ending: Ending) -> None:
    """Free a socket whose peer does not read: closing would wait for its buffer."""
    transport = request.transport
    if transport is None:
        return
    if ending is Ending.LAGGED:
        log.warning("supervisor %s does not keep up and is cut off", request.remote)
        transport.abort()
    else:
        asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT, transport.abort)


async def _events(
    feed: Feed, subscription: Subscription[FeedEvent], since: Cursor | None, joined: Cursor
) -> AsyncIterator[str]:
    """Yield the frames: what is behind *since* up to where the subscription *joined*, then what comes."""
    last = joined.position
    if since is not None and not feed.owns(since):
        yield json.dumps({"type": "gap", "reason": "unknown-log", "cursor": str(joined)})
    elif since is not None:
        last = max(last, since.position)
        async for event in feed.read(since.position, joined.position):
            if event.kind == "transition":
                yield event.text
    while batch := await subscription.get():
        for event in batch:
            if event.position > last and event.kind == "transition":
                yield event.text


async def _send(ws: web.WebSocketResponse, request: web.Request, events: AsyncIterator[str]) -> None:
    code, reason = WSCloseCode.SERVICE_RESTART, b"the server is shutting down"
    try:
        async for text in events:
            async with asyncio.timeout(_SEND_TIMEOUT):
                await ws.send_str(text)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        return
    except StorageUnavailable:
        code, reason = WSCloseCode.TRY_AGAIN_LATER, b"the event log does not answer"
    except ConnectionError:
        return
    with suppress(ConnectionError):
        await ws.close(code=code, message=reason)
