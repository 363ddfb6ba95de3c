"""Supervisors watch: every transition as one text frame, from the feed, never from the request path.

Frames are made once for all supervisors and written to the transport as they are. aiohttp's own writer only
closes, pings and pongs; a whole frame is written at a time, so theirs and ours cannot mix.
"""

import asyncio
import json
import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from callactors.errors import (
    CallNotAllowed,
    FieldError,
    InputError,
    InvalidFields,
    LogPurged,
    Overloaded,
    StorageUnavailable,
)
from callactors.feed import TOPIC, WELL, FeedEvent, FeedItem, Notice, text_frame
from callactors.hub import Ending
from callactors.store.events import Cursor
from callactors.strict_json import read_json
from callactors.system import CallSystem
from callactors.web import sockets
from callactors.web.guard import GRANT, get_guard
from callactors.web.keys import get_calls
from callactors.web.limits import get_limits
from callactors.web.parameters import read_query
from callactors.web.watch import Watch, read_watch

log = logging.getLogger(__name__)

SUPERVISORS: Final = "supervisors"  # nothing is published: subscribers hear of the shutdown
_MAX_MESSAGE: Final = 64 * 1024
_MAX_UNREAD: Final = 256 * 1024  # bytes; a client that has more to read is told nothing until it has read
_DRAIN_INTERVAL: Final = 0.05
_SNAPSHOT_INTERVAL: Final = 1.0  # between the beginnings of two that one client is told
_MESSAGES: Final = 100  # that a client may send in _MESSAGES_INTERVAL
_MESSAGES_INTERVAL: Final = 10.0
_MAX_REASON: Final = 123  # bytes, RFC 6455, 5.5
_COMEBACKS: Final = 500.0  # a second, when all come back after a shutdown


async def supervisor(request: web.Request) -> web.WebSocketResponse:
    """Tell transitions from now on, or what the query asks for."""
    system, guard = get_calls(request), get_guard(request)
    system.check_not_draining()
    if system.hub.count(SUPERVISORS) >= get_limits(request).supervisors:
        raise Overloaded("too many supervisors")
    watch, cursor = read_query(request, Watch), system.feed.cursor
    request[GRANT].check(watch.call_id)
    ws = await sockets.accept(request, max_message=_MAX_MESSAGE)
    watching = _Watching(system, request, ws, watch, cursor)
    lifetime = system.hub.subscribe(SUPERVISORS, on_end=lambda _: sockets.abort_soon(request))
    try:
        with guard.holding(request, watching.end), suppress(ConnectionError):
            await watching.listen()
    finally:
        lifetime.close()
        await watching.stop()
        if ws.close_code == WSCloseCode.ABNORMAL_CLOSURE:
            sockets.abort(request)
    return ws


class _Watching:
    """One supervisor's connection: what it wants, and up to where it was told."""

    def __init__(
        self,
        system: CallSystem,
        request: web.Request,
        ws: web.WebSocketResponse,
        watch: Watch,
        cursor: Cursor,
    ) -> None:
        self._system = system
        self._feed = system.feed
        self._request = request
        self._grant = request[GRANT]
        self._ws = ws
        self._watch = watch
        self._has_ended = False
        self._is_plain = not request.query
        self._since, self._is_snapshot_due = watch.since, watch.snapshot
        self._log_id, self._last = cursor
        self._conditions = dict(WELL)
        self._next_snapshot = 0.0
        self._telling: asyncio.Task[None] | None = asyncio.create_task(self._tell())

    async def listen(self) -> None:
        """Take what the client says until the connection ends."""
        loop = asyncio.get_running_loop()
        begin, messages = loop.time(), 0
        async for message in sockets.read_messages(self._request, self._ws):
            if loop.time() - begin > _MESSAGES_INTERVAL:
                begin, messages = loop.time(), 0
            messages += 1
            if messages > _MESSAGES:
                await self._close(WSCloseCode.POLICY_VIOLATION, b"too many messages")
            elif message.type is WSMsgType.BINARY:
                await self._close(WSCloseCode.UNSUPPORTED_DATA, b"send text frames")
            elif message.type is WSMsgType.TEXT:
                try:
                    await self._hear(_read(message.data))
                except TimeoutError:
                    self._cut_off()
                except (InvalidFields, CallNotAllowed) as error:
                    reason = str(error).encode("ascii", "replace")[:_MAX_REASON]
                    await self._close(WSCloseCode.INVALID_TEXT, reason)

    def end(self) -> None:
        """Close: what the client was granted has ended."""
        self._has_ended = True
        self._telling = asyncio.create_task(self._end(self._telling))

    def _is_ending(self) -> bool:
        return self._has_ended

    async def stop(self) -> None:
        """Tell nothing more."""
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _hear(self, fields: Mapping[str, Any]) -> None:
        """Go on with what a subscribe asks for; other messages are ignored."""
        if fields.get("type") != "subscribe" or self._is_ending():
            return
        watch = read_watch({name: value for name, value in fields.items() if name != "type"})
        self._grant.check(watch.call_id)
        await self._wait_until_read()  # else who asks again and again need never read
        if not self._is_ending():
            await self.stop()
        if self._is_ending():  # since a moment ago: what closes the connection goes on
            return
        self._watch, self._is_plain = watch, False
        self._since = watch.since or self._since  # what is under way begins anew
        self._is_snapshot_due |= watch.snapshot
        self._write_notice("subscribed", cursor=str(Cursor(self._log_id, self._last)))
        self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """Tell what the client wants until the server shuts down."""
        try:
            await self._begin()
            is_open = True
            while is_open:
                await self._wait_until_read()
                await self._catch_up()
                is_open = await self._follow()
            await self._say_bye()
        except TimeoutError:
            self._cut_off()
        except StorageUnavailable:
            await self._close(WSCloseCode.TRY_AGAIN_LATER, b"the event log does not answer")
        except ConnectionError:
            log.debug("supervisor %s is gone", self._address)

    def _cut_off(self) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():  # the client was just waited for twice
            return
        self._feed.cut_off += 1
        log.warning("supervisor %s does not keep up and is cut off", self._address)
        sockets.abort(self._request)

    async def _end(self, telling: asyncio.Task[None] | None) -> None:
        if telling is not None:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        await self._close(WSCloseCode.POLICY_VIOLATION, b"the key has ended")

    async def _begin(self) -> None:
        """Go to where the client wants to begin: its cursor, a snapshot, or now."""
        if self._since is not None:
            gap = await self._feed.find_gap(self._since)
            if gap is None:
                self._last = self._since.position
            else:
                self._tell_gap(gap)
            self._since = None
        if self._is_snapshot_due:
            await self._send_snapshot()

    def _tell_gap(self, reason: str) -> None:
        self._is_snapshot_due = True
        self._write_notice("gap", reason=reason, cursor=str(self._feed.cursor))

    async def _send_snapshot(self) -> None:
        """Tell the calls as they are, in parts; what comes after the cursor, fixed before, follows."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(self._next_snapshot - now)
        self._next_snapshot = max(self._next_snapshot, now) + _SNAPSHOT_INTERVAL
        snapshot, number, covers = self._system.snapshot(self._watch.call_id), 0, self._grant.covers
        async for part in snapshot.parts():
            number += 1
            calls = [row.text for row in part.rows if covers(row.call_id) and self._watch.wants_call(row)]
            self._write_part(snapshot.cursor, number, calls, is_last=part.next is None)
            await self._wait_until_read()
        self._last = snapshot.cursor.position
        self._is_snapshot_due = False

    def _write_part(self, cursor: Cursor, number: int, calls: Sequence[str], *, is_last: bool) -> None:
        told = {"type": "snapshot", "part": number, "last": is_last, "cursor": str(cursor)}
        head = json.dumps(told, separators=(",", ":")).removesuffix("}")
        self._write(text_frame(f'{head},"calls":[{",".join(calls)}]}}'))

    async def _catch_up(self) -> None:
        """Tell what stands between the client and now, as fast as it reads."""
        while self._last < (until := self._feed.cursor.position):
            try:
                async for event in self._feed.read(self._last):
                    self._last = event.position
                    if self._wants(event):
                        self._write(event.frame)
                        await self._wait_until_read()
            except LogPurged:
                self._tell_gap("expired")
                await self._send_snapshot()
            self._last = max(self._last, until)

    async def _follow(self) -> bool:
        """Tell what is published from now on, and return whether to catch up and go on when it ends."""
        with closing(self._system.hub.subscribe(TOPIC)) as subscription:
            self._write_items([self._feed.bookmark(), *self._feed.conditions()])
            while items := await subscription.get():
                self._write_items(items)
                if self._unread > _MAX_UNREAD:
                    return True
            return subscription.ending is Ending.LAGGED

    def _write_items(self, items: Sequence[FeedItem]) -> None:
        """Write what the client wants of *items*."""
        frames = []
        for item in items:
            if isinstance(item, Notice):
                if not self._is_plain and self._is_news(item):
                    frames.append(item.frame)
            elif item.position > self._last:  # else it was seen elsewhere
                self._last = item.position
                if self._wants(item):
                    frames.append(item.frame)
        self._write(b"".join(frames))

    def _is_news(self, notice: Notice) -> bool:
        """Whether *notice* is to be told: a condition if the client was told another one last."""
        if notice.condition is None:  # a bookmark would set back who is ahead of this feed
            return self._last <= self._feed.cursor.position
        was, self._conditions[notice.condition] = self._conditions[notice.condition], notice.frame
        return was != notice.frame

    def _wants(self, event: FeedEvent) -> bool:
        return self._grant.covers(event.logged.call_id) and self._watch.wants(event)

    async def _say_bye(self) -> None:
        if not self._is_plain:
            spread = 1.0 + self._system.hub.count(SUPERVISORS) / _COMEBACKS
            wait = round(random.uniform(0.1, spread) * 1_000)  # noqa: S311
            self._write_notice("bye", code=int(WSCloseCode.SERVICE_RESTART), retry_after_ms=wait)
        await self._close(WSCloseCode.SERVICE_RESTART, b"the server is shutting down")

    @property
    def _address(self) -> str:
        return get_guard(self._request).client_address(self._request)

    @property
    def _unread(self) -> int:
        """Bytes that wait for the client to read."""
        transport = self._request.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def _write_notice(self, kind: str, **told: object) -> None:
        self._write(text_frame(json.dumps({"type": kind, **told}, separators=(",", ":"))))

    def _write(self, frames: bytes) -> None:
        """Write whole *frames*.

        Raises:
            ConnectionResetError: the connection is closed, or about to be.
        """
        transport = self._request.transport
        if transport is None or self._ws.closed or transport.is_closing():
            raise ConnectionResetError("the supervisor is gone")
        if frames:
            transport.write(frames)

    async def _wait_until_read(self) -> None:
        """Return when the client has read nearly all.

        Raises:
            TimeoutError: it takes too long.
        """
        if self._unread <= _MAX_UNREAD:
            return
        async with asyncio.timeout(sockets.SEND_TIMEOUT):
            while self._unread > _MAX_UNREAD // 4:  # noqa: ASYNC110  # nothing public says when
                await asyncio.sleep(_DRAIN_INTERVAL)

    async def _close(self, code: int, reason: bytes) -> None:
        await sockets.close(self._request, self._ws, code, reason)


def _read(text: str) -> dict[str, Any]:
    """Return the JSON object in *text*, or raise InvalidFields."""
    try:
        fields = read_json(text)
    except InputError as error:
        raise InvalidFields([FieldError("", "not_json", str(error))]) from None
    if not isinstance(fields, dict):
        raise InvalidFields([FieldError("", "not_an_object", "send a JSON object")])
    return fields
