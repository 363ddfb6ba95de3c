"""The eraser: takes the erasures that are asked for, and sees each to its end, whoever began it."""

import asyncio
import logging
from asyncio import Future, Queue, QueueFull
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from callactors.errors import Overloaded, StorageRefused, StorageUnavailable, UnknownCall
from callactors.logs import CallLog
from callactors.store import erasure
from callactors.store.connection import RowsLocked, Session
from callactors.store.erasure import Erased
from callactors.store.locks import LOCK_TIMEOUT

log = logging.getLogger(__name__)

_WAITING: Final = 1_000
_INTERVAL: Final = 1.0


class _Request(NamedTuple):
    call_id: str
    actor: str
    reply: "Future[Erased]"


class Eraser:
    """Erases calls; *on_events* is called after each commit.

    What is left to delete is looked for every second, and at start: a server that is killed leaves it to any.
    """

    def __init__(self, dsn: str, *, on_events: Callable[[], None]) -> None:
        self._on_events = on_events
        self._requests: Queue[_Request] = Queue(_WAITING)
        self._session = Session(dsn, "eraser", lock_timeout=LOCK_TIMEOUT)
        self._scrubbing = Session(dsn, "scrubber")
        self._has_work = asyncio.Event()

    def close(self) -> None:
        """Answer who still waits with StorageUnavailable; `run` must have ended."""
        while not self._requests.empty():
            _fail(self._requests.get_nowait().reply, StorageUnavailable())
        self._session.close()
        self._scrubbing.close()

    def erase(self, call_id: str, actor: str) -> "Future[Erased]":
        """Erase the call; *actor* is who asks for it.

        Raises:
            Overloaded: too many erasures wait.
            UnknownCall: there is no such call.
            StorageUnavailable, StorageRefused: it may not be erased.
        """
        reply: Future[Erased] = asyncio.get_running_loop().create_future()
        try:
            self._requests.put_nowait(_Request(call_id, actor, reply))
        except QueueFull:
            raise Overloaded("too many erasures wait") from None
        return reply

    async def run(self) -> None:
        """Erase and scrub until cancelled."""
        await asyncio.gather(self._take_requests(), self._scrub())

    async def _take_requests(self) -> None:
        while True:
            request = await self._requests.get()
            try:
                erased = await self._erase(request)
            except (UnknownCall, StorageUnavailable) as error:
                _fail(request.reply, error)
            except Exception as error:
                log_of_call = CallLog(log, request.call_id)
                log_of_call.exception("it cannot be erased")
                _fail(request.reply, StorageRefused(type(error).__name__))
            else:
                self._on_events()
                self._has_work.set()
                if not request.reply.done():
                    request.reply.set_result(erased)
            finally:
                _fail(request.reply, StorageUnavailable())

    async def _erase(self, request: _Request) -> Erased:
        work = partial(erasure.erase, call_id=request.call_id, actor=request.actor)
        try:
            return await self._session.run(work, gives_way=True)
        except RowsLocked:
            raise StorageUnavailable from None

    async def _scrub(self) -> None:
        while True:
            self._has_work.clear()
            for call_no, call_id in await self._scrubbing.run(erasure.read_unscrubbed):
                await self._scrub_one(call_no, CallLog(log, call_id))
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL):
                    await self._has_work.wait()

    async def _scrub_one(self, call_no: int, log_of_call: CallLog) -> None:
        try:
            if await erasure.scrub(self._scrubbing.run, call_no):
                log_of_call.info("all that was stored of it is deleted")
        except Exception:
            log_of_call.exception("what is stored of it cannot be deleted yet")
            await self._scrubbing.run(partial(erasure.put_off, call_no=call_no))


def _fail(reply: "Future[Erased]", error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
