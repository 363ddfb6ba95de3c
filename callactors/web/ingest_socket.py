"""Ingest over a WebSocket: each text frame is a packet, and acks say how many frames are answered."""

import asyncio
import json
import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

from aiohttp import WSCloseCode, WSMsgType, web

from callactors.errors import CallactorsError, CallError, FieldError, InputError, InvalidFields, Unavailable
from callactors.facts import Accepted, Completed
from callactors.packets import CompleteRequest, Packet, check_call_id, make_complete, read_packet
from callactors.strict_json import read_json
from callactors.system import CallSystem
from callactors.web import sockets
from callactors.web.buckets import Bucket
from callactors.web.guard import get_guard
from callactors.web.ingest import present_completed
from callactors.web.keys import get_calls
from callactors.web.lines import TOGETHER, WINDOW, WINDOW_SIZE
from callactors.web.problems import count_problem, describe

log = logging.getLogger(__name__)

_MAX_FRAME: Final = 1024 * 1024
_WRONG_RATE: Final = 10.0  # frames a second that cannot be read
_WRONG_BURST: Final = 20.0
_SHUTDOWN: Final = (WSCloseCode.SERVICE_RESTART, b"the server is shutting down")
_KEY_ENDED: Final = (WSCloseCode.POLICY_VIOLATION, b"the key has ended")
_TOPIC: Final = "ingest sockets"  # nothing is published: subscribers hear of the shutdown


class _Sent(NamedTuple):
    """Frames on their way, the characters in their data, and where their answer comes."""

    frames: int
    size: int
    reply: "Future[Any] | CallactorsError"


async def stream_socket(request: web.Request) -> web.WebSocketResponse:
    """Store the packet in each text frame."""
    call_id = check_call_id(request.match_info["call_id"])
    system, guard = get_calls(request), get_guard(request)
    system.check_not_draining()
    guard.count_call(request, call_id)
    ws = await sockets.accept(request, max_message=_MAX_FRAME)
    ingest = _SocketIngest(system, call_id, request, ws)
    subscription = system.hub.subscribe(_TOPIC, on_end=lambda _: ingest.end(*_SHUTDOWN))
    answers = asyncio.create_task(ingest.answer())
    try:
        with guard.holding(request, lambda: ingest.end(*_KEY_ENDED)):
            await ingest.read()
    finally:
        subscription.close()
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)
        ingest.give_up()
    return ws


class _SocketIngest:
    """One connection: `read` takes frames while few are unanswered, `answer` tells what became of them."""

    def __init__(
        self, system: CallSystem, call_id: str, request: web.Request, ws: web.WebSocketResponse
    ) -> None:
        self._system = system
        self._call_id = call_id
        self._request = request
        self._ws = ws
        self._loop = asyncio.get_running_loop()
        self._together: list[Packet] = []  # of the last frames: asked about with those that come with them
        self._sent: deque[_Sent] = deque()
        self._frames = 0
        self._answered = 0
        self._size = 0
        self._wrong = Bucket(_WRONG_RATE, burst=_WRONG_BURST)
        self._ending: tuple[WSCloseCode, bytes] | None = None
        self._is_over = False
        self._has_news = asyncio.Event()
        self._has_room = asyncio.Event()

    def end(self, code: WSCloseCode, reason: bytes) -> None:
        """Answer what has come, then close."""
        self._ending = self._ending or (code, reason)
        self._has_news.set()
        sockets.abort_soon(self._request)

    def give_up(self) -> None:
        """Wait for no answer; what is on its way may still be stored."""
        for sent in self._sent:
            if isinstance(sent.reply, Future):
                sent.reply.cancel()

    async def read(self) -> None:
        """Take frames until the connection ends."""
        async for message in sockets.read_messages(self._request, self._ws):
            if message.type in sockets.HEARTBEATS:
                continue
            if message.type is not WSMsgType.TEXT:
                code, reason = WSCloseCode.UNSUPPORTED_DATA, b"send text frames"
                await sockets.close(self._request, self._ws, code, reason)
                return
            is_taken = self._ending is not None or self._take(message.data)
            if not is_taken and not self._wrong.take(monotonic()):
                sockets.stop_reading(self._request)
                self.end(WSCloseCode.POLICY_VIOLATION, b"too many wrong frames")
                while not self._is_over:
                    self._has_room.clear()
                    await self._has_room.wait()
                return
            if not self._frames % TOGETHER:
                await asyncio.sleep(0)
            while not self._is_over and (
                self._frames - self._answered >= WINDOW or self._size >= WINDOW_SIZE
            ):
                self._has_room.clear()
                await self._has_room.wait()
            if self._is_over:
                return

    async def answer(self) -> None:
        """Send acks, and before them what was refused, until `end`."""
        try:
            while self._sent or self._ending is None:
                if self._sent:
                    await self._tell(await self._settle())
                else:
                    self._has_news.clear()
                    await self._has_news.wait()
            code, reason = self._ending
            await self._ws.close(code=code, message=reason)
        except TimeoutError:
            sockets.abort(self._request)
        except ConnectionError:
            log.debug("a sender is gone before its ack")
        finally:  # `read` must not wait for room that nobody makes
            self._is_over = True
            self._has_room.set()

    def _take(self, text: str) -> bool:
        """Send on what stands in a frame; return whether it could be read."""
        self._frames += 1
        try:
            read = _read(text)
        except InputError as error:
            self._ask_together()
            self._send(1, 0, error)
            return False
        if isinstance(read, CompleteRequest):
            self._ask_together()
            self._ask(1, 0, lambda: self._system.complete(self._call_id, read))
            return True
        self._size += len(read.data)
        self._together.append(read)
        if len(self._together) == 1:
            self._loop.call_soon(self._ask_together)  # the frames that are here already are read first
        elif len(self._together) == TOGETHER:
            self._ask_together()
        return True

    def _ask_together(self) -> None:
        if packets := self._together:
            self._together = []
            size = sum([len(packet.data) for packet in packets])
            self._ask(len(packets), size, lambda: self._system.accept_many(self._call_id, packets))

    def _ask(self, frames: int, size: int, ask: "Callable[[], Future[Any]]") -> None:
        try:
            self._send(frames, size, ask())
        except Unavailable as error:
            self._send(frames, size, error)

    def _send(self, frames: int, size: int, reply: "Future[Any] | CallactorsError") -> None:
        self._sent.append(_Sent(frames, size, reply))
        self._has_news.set()

    async def _settle(self) -> list[dict[str, Any]]:
        """Wait for the oldest answer, take those that are there too, and return what is to be told."""
        told: list[dict[str, Any]] = []
        while True:
            sent = self._sent[0]
            for outcome in await _outcomes(sent):
                self._answered += outcome.packets if isinstance(outcome, Accepted) else 1
                if isinstance(outcome, CallactorsError):
                    count_problem(self._request, outcome)
                    told.append({"type": "refused", "frame": self._answered, "problem": describe(outcome)})
                elif isinstance(outcome, Completed):
                    presented = present_completed(self._call_id, outcome)
                    told.append({"type": "completed", "frame": self._answered, **presented})
            self._size -= sent.size
            self._sent.popleft()
            self._has_room.set()
            if not (self._sent and _is_known(self._sent[0])):
                return [*told, {"type": "ack", "frames": self._answered}]

    async def _tell(self, told: Sequence[dict[str, Any]]) -> None:
        async with asyncio.timeout(sockets.SEND_TIMEOUT):
            for frame in told:
                await self._ws.send_str(json.dumps(frame))
                if len(told) > 1:  # it is no mere ack: let others in between
                    await asyncio.sleep(0)


def _is_known(sent: _Sent) -> bool:
    return isinstance(sent.reply, CallactorsError) or sent.reply.done()


async def _outcomes(sent: _Sent) -> Sequence[object]:
    if isinstance(sent.reply, CallactorsError):
        return [sent.reply] * sent.frames
    try:
        answer = await sent.reply
    except (CallError, Unavailable) as error:
        return [error] * sent.frames
    return answer if isinstance(answer, list) else [answer]


def _read(text: str) -> Packet | CompleteRequest:
    """Return the packet in *text*, or the request in a frame with type "complete"."""
    try:
        return read_packet(text)
    except InvalidFields:
        fields = read_json(text)
        if not isinstance(fields, dict) or "type" not in fields:
            raise
    if fields.pop("type") != "complete":
        error = FieldError("/type", "unknown_type", 'send a packet, or a frame with the type "complete"')
        raise InvalidFields([error])
    return make_complete(fields)
