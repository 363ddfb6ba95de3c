"""Media streams of vendors: each message becomes a packet, and the streams' ends are the call's."""

import asyncio
import logging
from asyncio import Future, Task
from collections import Counter
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias, TypeGuard
from uuid import uuid4

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from callactors.errors import (
    AccessError,
    CallactorsError,
    CallClosed,
    CallErased,
    CallError,
    Draining,
    StorageRefused,
    Unavailable,
)
from callactors.facts import Accepted
from callactors.logs import CallLog, about
from callactors.messages import BeginStream, DropStream, EndStream, FromVendor
from callactors.packets import Packet
from callactors.system import CallSystem
from callactors.vendors.steps import Begin, End, Ignored, MediaParser, Step, WrongMessage
from callactors.web import sockets
from callactors.web.buckets import Bucket
from callactors.web.guard import GRANT, get_guard
from callactors.web.keys import get_calls
from callactors.web.lines import TOGETHER, WINDOW, WINDOW_SIZE
from callactors.web.parameters import BinaryMediaQuery, MediaQuery, read_query
from callactors.web.problems import count_problem
from callactors.web.vendor_access import get_vendor_rules

log = logging.getLogger(__name__)

_MAX_MESSAGE: Final = 1024 * 1024
_START_TIMEOUT: Final = 10.0
_TELL_TIMEOUT: Final = 60.0  # how long an end is told again and again that cannot be stored
_WRONG_RATE: Final = 10.0  # messages a second that nobody understands
_WRONG_BURST: Final = 20.0
_MAX_REASON: Final = 123  # bytes, RFC 6455, 5.5
_MAX_COUNTS: Final = 20  # what is counted by its name in a log line
_IN_ORDER: Final = frozenset({WSCloseCode.OK, WSCloseCode.GOING_AWAY, 0})  # 0: closed without a code
_SHUTDOWN: Final = (WSCloseCode.SERVICE_RESTART, "the server is shutting down")
_TOPIC: Final = "media sockets"  # nothing is published: subscribers hear of the shutdown

_CONTENT: Final = frozenset({WSMsgType.TEXT, WSMsgType.BINARY})

_What: TypeAlias = Sequence[Packet] | FromVendor
MediaStreams: TypeAlias = "dict[tuple[str, str], _MediaSocket]"

MEDIA_STREAMS: Final[web.AppKey[MediaStreams]] = web.AppKey("callactors_media_streams", dict)
"""By call and stream, the newest connection that brings it."""


async def media(request: web.Request) -> web.WebSocketResponse:
    """Take a stream of Twilio, SignalWire, Fonoster, Telnyx, Plivo or Exotel: JSON with audio in base64."""
    from callactors.vendors.json_media import JsonMediaParser  # noqa: PLC0415  only for who has such a vendor

    rules, query = get_vendor_rules(request), read_query(request, MediaQuery)
    vendor = query.vendor or rules.media_vendor
    return await _take(request, JsonMediaParser(vendor, store_media=rules.store_media))


async def binary_media(request: web.Request) -> web.WebSocketResponse:
    """Take a stream of jambonz, FreeSWITCH, Asterisk or Vonage: a text first, then audio as it is."""
    from callactors.vendors.preamble import (  # noqa: PLC0415  only for who has such a vendor
        SUBPROTOCOLS,
        PreambleParser,
    )

    rules, query = get_vendor_rules(request), read_query(request, BinaryMediaQuery)
    parser = PreambleParser(
        query.vendor, connection=uuid4().hex, call_id=query.call_id, store_media=rules.store_media
    )
    return await _take(request, parser, SUBPROTOCOLS)


async def _take(
    request: web.Request, parser: MediaParser, protocols: Sequence[str] = ()
) -> web.WebSocketResponse:
    system = get_calls(request)
    system.check_not_draining()
    ws = await sockets.accept(request, max_message=_MAX_MESSAGE, protocols=protocols, autoclose=False)
    connection = _MediaSocket(system, request, ws, parser)
    lifetime = system.hub.subscribe(_TOPIC, on_end=lambda _: connection.close(*_SHUTDOWN))
    try:
        ended = partial(connection.close, WSCloseCode.POLICY_VIOLATION, "the key has ended")
        with get_guard(request).holding(request, ended):
            await connection.run()
    finally:
        lifetime.close()
        await connection.stop()
    return ws


class _MediaSocket:
    """One connection. A vendor sends nothing twice, so what could not be stored now is asked about again."""

    def __init__(
        self, system: CallSystem, request: web.Request, ws: web.WebSocketResponse, parser: MediaParser
    ) -> None:
        self._system = system
        self._request = request
        self._ws = ws
        self._parser = parser
        self._streams = request.config_dict[MEDIA_STREAMS]
        self._loop = asyncio.get_running_loop()
        self._call_id = self._stream = ""
        self._end: EndStream | None = None
        self._has_ended = False
        self._together: list[Packet] = []
        self._again: list[tuple[_What, Unavailable]] = []
        self._unsettled = 0
        self._size = 0
        self._has_settled = asyncio.Event()
        self._closing: Task[None] | None = None
        self._wrong = Bucket(_WRONG_RATE, burst=_WRONG_BURST)
        self._counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Take messages until the connection ends, and tell how it did."""
        timer = self._loop.call_later(_START_TIMEOUT, self._on_no_start)
        code = None
        try:
            await self._take_messages()
            code = self._ws.close_code  # answering the close may make it another
            await self._ws.close(drain=False)
        finally:  # also of a handler that is cancelled
            timer.cancel()
            self._ask_together()
            await self._tell_end(is_orderly=self._closing is None and code in _IN_ORDER)

    def close(self, code: int, reason: str) -> None:
        """Take nothing more, and close."""
        if self._closing is None:
            told = reason.encode("ascii", "replace")[:_MAX_REASON]
            self._closing = asyncio.create_task(sockets.close(self._request, self._ws, code, told))

    async def stop(self) -> None:
        """Wait until the connection is closed."""
        if self._is_newest:
            del self._streams[self._call_id, self._stream]
        if self._closing is not None:
            await asyncio.gather(self._closing, return_exceptions=True)
        self._log.info("a media stream of %s has ended: %s", self._vendor, dict(self._counts))

    @property
    def _log(self) -> logging.Logger | CallLog:
        return about(log, self._call_id)

    @property
    def _vendor(self) -> str:
        return self._parser.vendor or "an unknown vendor"

    @property
    def _is_newest(self) -> bool:
        """Whether the stream goes on over no other connection since."""
        return self._streams.get((self._call_id, self._stream)) is self

    async def _take_messages(self) -> None:
        async for message in sockets.read_messages(self._request, self._ws):
            if message.type in _CONTENT and self._closing is None:
                self._read(message)
                if not self._counts["messages"] % TOGETHER:
                    await asyncio.sleep(0)
                while self._unsettled >= WINDOW or self._size >= WINDOW_SIZE or self._again:
                    await self._settle()
                if self._end is not None:
                    end, self._end = self._end, None
                    await self._tell(end)

    def _on_no_start(self) -> None:
        if not self._call_id:
            self._refuse(f"no start came within {_START_TIMEOUT:g} s")

    def _refuse(self, reason: str) -> None:
        self._log.warning("a media stream of %s is refused: %s", self._vendor, reason)
        self.close(WSCloseCode.POLICY_VIOLATION, reason)

    def _read(self, message: WSMessage) -> None:
        self._counts["messages"] += 1
        try:
            is_text = message.type is WSMsgType.TEXT
            steps = self._parser.text(message.data) if is_text else self._parser.binary(message.data)
            for step in steps:
                self._do(step)
        except WrongMessage as error:
            self._counts["wrong"] += 1
            if not self._call_id or not self._wrong.take(monotonic()):
                self._refuse(str(error))
                sockets.stop_reading(self._request)
            elif self._counts["wrong"] == 1:
                self._log.warning("a message of %s is left out: %s", self._vendor, error)
        except (AccessError, CallError, Unavailable) as error:
            count_problem(self._request, error)
            self._refuse(str(error))

    def _do(self, step: Step) -> None:
        match step:
            case Packet():
                self._together.append(step)
                self._size += len(step.data)
                if len(self._together) == 1:
                    self._loop.call_soon(self._ask_together)  # those that are here already are read first
            case Begin(call_id, stream, metadata):
                self._request[GRANT].check([call_id])
                get_guard(self._request).count_call(self._request, call_id)
                self._call_id, self._stream = call_id, stream
                self._streams[call_id, stream] = self
                self._ask(BeginStream(stream, metadata, self._system.server))
            case End(ends_call):
                self._ask_together()
                self._has_ended = True
                self._end = EndStream(self._stream, ends_call)
            case Ignored(event):
                name, counts = f"ignored {event}", self._counts
                counts[name if name in counts or len(counts) < _MAX_COUNTS else "ignored others"] += 1

    def _ask_together(self) -> None:
        if packets := self._together:
            self._together = []
            self._ask(packets)

    def _ask(self, what: _What) -> None:
        try:
            reply = self._start(what)
        except Unavailable as error:
            self._again.append((what, error))
        else:
            self._unsettled += _count(what)
            reply.add_done_callback(partial(self._on_settled, what))

    def _start(self, what: _What) -> "Future[Any]":
        if isinstance(what, FromVendor):
            return self._system.hear(self._call_id, what)
        return self._system.accept_many(self._call_id, what)

    def _on_settled(self, what: _What, reply: "Future[Any]") -> None:
        self._unsettled -= _count(what)
        self._has_settled.set()
        if reply.cancelled():
            return
        error, answer = reply.exception(), None
        if error is None:
            answer = reply.result()
        elif _is_passing(error):
            self._again.append((what, error))
            return
        elif isinstance(error, CallactorsError):
            self._on_refused(error)
        if not isinstance(what, FromVendor):
            self._on_packets(what, answer or ())

    def _on_packets(self, packets: Sequence[Packet], answer: Sequence[object]) -> None:
        """Look at what became of *packets*; those that are asked about again still count."""
        again: list[Packet] = []
        failure: Unavailable | None = None
        index = 0
        for outcome in answer:
            count = outcome.packets if isinstance(outcome, Accepted) else 1
            if _is_passing(outcome):
                again += packets[index : index + count]
                failure = outcome
            elif isinstance(outcome, CallactorsError):
                self._on_refused(outcome)
            index += count
        if failure is not None:
            self._again.append((again, failure))
        self._size -= _size_of(packets) - _size_of(again)

    def _on_refused(self, error: CallactorsError) -> None:
        self._counts["refused"] += 1
        count_problem(self._request, error)
        if self._counts["refused"] == 1:
            self._log.warning("a packet of %s is refused: %s", self._vendor, error)
        if isinstance(error, CallClosed | CallErased):
            self.close(WSCloseCode.OK, "the call is over")

    async def _settle(self) -> None:
        """Wait for an answer, or ask again about what could not be stored."""
        if self._unsettled:
            self._has_settled.clear()
            await self._has_settled.wait()
            return
        again, self._again = self._again, []
        lost = [what for what, error in again if isinstance(error, Draining)]
        self._counts["lost"] += sum(map(_count, lost))
        self._size -= sum(map(_size_of, lost))
        again = [one for one in again if not isinstance(one[1], Draining)]
        if again:
            await asyncio.sleep(max(error.retry_after for _, error in again))
        for what, _ in again:
            self._ask(what)

    async def _tell(self, end: EndStream | DropStream) -> None:
        """Tell how the stream ended, behind all of it: the call may take nothing any more after that."""
        await self._settle_all()
        self._ask(end)
        await self._settle_all()

    async def _settle_all(self) -> None:
        while self._unsettled or self._again:
            await self._settle()

    async def _tell_end(self, *, is_orderly: bool) -> None:
        """Tell the call that the stream is over, or lost, and wait until all is stored."""
        end: EndStream | DropStream = DropStream(self._stream, self._system.server)
        if is_orderly and self._parser.ends_by_close:
            end = EndStream(self._stream, True, self._system.server)
        try:
            async with asyncio.timeout(_TELL_TIMEOUT):
                if self._has_ended or not self._is_newest:
                    await self._settle_all()
                else:
                    await self._tell(end)
        except TimeoutError:
            self._log.error("what %s sent last could not be stored in time", self._vendor)
            if self._is_newest:
                key, streams = (self._call_id, self._stream), self._streams
                self._system.untold.add(self._call_id, end, is_outdated=lambda: key in streams)


def _is_passing(error: object) -> TypeGuard[Unavailable]:
    """Whether it is of use to ask again."""
    return isinstance(error, Unavailable) and not isinstance(error, StorageRefused)


def _count(what: _What) -> int:
    return 1 if isinstance(what, FromVendor) else len(what)


def _size_of(what: _What) -> int:
    return 0 if isinstance(what, FromVendor) else sum([len(packet.data) for packet in what])
