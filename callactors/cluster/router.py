"""The router: a message for a call that is not here goes to the server that has it, and its answer back.

The owner's answer, given after its commit, is the answer. Nobody listening on the call's subject means that
no server has it: then it is claimed here. Silence means nothing by itself: a call is claimed only if, by the
database, its owner is dead or not to be reached; else the message is sent again.
"""

import asyncio
from asyncio import Future
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

from nats.aio.msg import Msg

from callactors.cluster.answering import MOVED, Answering
from callactors.cluster.connection import NatsOptions
from callactors.cluster.link import HEADROOM, Link, Subjects
from callactors.cluster.wire import VERSION, TooLong, read_reply, write_message
from callactors.errors import Overloaded, StorageUnavailable, Unavailable
from callactors.facts import Accepted
from callactors.messages import AcceptMany, CancelCall, Describe, Message, RetryCall
from callactors.routing import LocalCalls, RouteCounts

_ATTEMPTS: Final = 9  # how often a message may meet somebody who has the call no more
_FIRST_WAIT: Final = 0.005  # seconds before the second, each wait twice the one before: 1.3 s in all
_SILENCE: Final = 0.5  # seconds without an answer behind which the database is asked for the owner
_LOOK_INTERVAL: Final = 0.1
_LOOK_BATCH: Final = 500
_POKE_INTERVAL: Final = 0.005
_MAX_ASKED: Final = 20_000  # messages that wait for other servers
_NO_RESPONDERS: Final = "503"


class _Asked:
    """A message that waits for its answer, from wherever it comes first."""

    __slots__ = (
        "asked_at",
        "attempts",
        "before",
        "call_id",
        "context",
        "is_here",
        "is_resting",
        "message",
        "number",
        "reply",
        "reserved",
        "sent_at",
    )

    def __init__(
        self, call_id: str, message: Message, reply: "Future[Any]", *, reserved: bool, context: object
    ) -> None:
        self.call_id = call_id
        self.message = message
        self.reply = reply
        self.reserved = reserved
        self.context = context
        self.number: str | None = None
        self.attempts = 0
        self.is_here = False
        self.is_resting = False
        self.asked_at = self.sent_at = _now()
        self.before: list[Any] = []
        """Outcomes of packets that came together with those of *message*, and before them."""


class NatsRouter:
    """Routes by NATS: see `routing.Router`.

    Raises:
        NatsFilesBroken: the credentials or the CA cannot be used.
    """

    def __init__(self, options: NatsOptions) -> None:
        options.check_files()
        self.counts = RouteCounts()
        self._options = options
        self._numbers = count(1)
        self._asked: dict[str, _Asked] = {}
        self._is_poked = False
        self._is_leaving = False

    @property
    def is_up(self) -> bool:
        return self._link.is_up

    def open(self, local: LocalCalls) -> None:
        self._local = local
        self._subjects = Subjects(f"callactors.{VERSION}.{local.log_id}", local.owner.rpartition("/")[2])
        self._link = Link(
            self._options,
            self._subjects,
            on_request=self._on_request,
            on_answer=self._on_answer,
            on_poke=local.poke_feed,
            on_change=local.tell_routed,
        )
        self._answering = Answering(local, self._subjects, self._link, self.counts)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            tasks.create_task(self._look_after())

    def ask(self, call_id: str, message: Message, *, reserved: bool, context: object = None) -> "Future[Any]":
        reply: Future[Any] = asyncio.get_running_loop().create_future()
        asked = _Asked(call_id, message, reply, reserved=reserved, context=context)
        self._route(asked)
        return reply

    def hold(self, call_id: str) -> None:
        if not self._is_leaving:
            self._link.hold(call_id)

    def let_go(self, call_id: str) -> None:
        self._link.let_go(call_id)

    def let_all_go(self) -> None:
        self._is_leaving = True
        for call_id in self._link.held:
            self._link.let_go(call_id)

    def poke(self) -> None:
        if not self._is_poked and self.is_up:
            self._is_poked = True
            asyncio.get_running_loop().call_later(_POKE_INTERVAL, self._poke)

    def _poke(self) -> None:
        self._is_poked = False
        self._link.poke()

    def _on_request(self, message: Msg) -> None:
        self._answering.take(message, is_leaving=self._is_leaving)

    def _route(self, asked: _Asked) -> None:
        if self._local.has(asked.call_id):
            self._ask_here(asked)
            return
        if not self._link.is_up:
            self._on_nobody(asked)
            return
        payload = write_message(asked.message)
        if payload is None or len(payload) > self._link.max_payload - HEADROOM:
            self._ask_here(asked)  # claimed for its sake: dearer, and as right
            return
        if asked.number is None:
            if len(self._asked) >= _MAX_ASKED:
                raise Overloaded("too many messages wait for other servers")
            asked.number = str(next(self._numbers))
            self._asked[asked.number] = asked
            asked.reply.add_done_callback(partial(self._forget, asked.number))
        self.counts.asked += 1
        asked.sent_at = _now()
        subject, reply = self._subjects.of_call(asked.call_id), self._subjects.of_answer(asked.number)
        self._link.send(subject, payload, reply)

    def _forget(self, number: str, _: "Future[Any]") -> None:
        self._asked.pop(number, None)

    def _ask_here(self, asked: _Asked) -> None:
        asked.is_here = True
        inner = self._local.ask(asked.call_id, asked.message, reserved=asked.reserved, context=asked.context)
        inner.add_done_callback(partial(self._on_local, asked))

    def _on_local(self, asked: _Asked, inner: "Future[Any]") -> None:
        if not inner.cancelled():
            asked.is_here = False
            self._take(asked, inner.exception() or inner.result())

    def _on_answer(self, token: str, message: Msg) -> None:
        asked = self._asked.get(token)
        if asked is None:
            return  # it was answered already, or is not waited for any more
        if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
            self._try(asked, self._on_nobody)
        else:
            self._take(asked, read_reply(message.data))

    def _on_nobody(self, asked: _Asked) -> None:
        if asked.is_here or asked.reply.done():
            return
        if isinstance(asked.message, Describe):
            asked.reply.set_result(None)
            return
        self.counts.claimed += 1
        self._ask_here(asked)

    def _take(self, asked: _Asked, outcome: object) -> None:
        """Give *outcome* to who asked, unless it is that somebody else has the call."""
        if asked.reply.done():
            return
        if isinstance(outcome, MOVED):
            self._ask_again(asked, outcome)
        elif isinstance(outcome, TooLong):
            self._try(asked, self._on_nobody)  # to be answered here, as what is too long to be asked
        elif isinstance(outcome, Exception):
            asked.reply.set_exception(outcome)
        elif isinstance(outcome, list) and isinstance(asked.message, AcceptMany):
            self._take_many(asked, asked.message.packets, outcome)
        else:
            asked.reply.set_result(outcome)

    def _take_many(self, asked: _Asked, packets: Sequence[Any], outcomes: Sequence[Any]) -> None:
        """Keep the outcomes up to the first packet that met another owner, and ask again for the rest."""
        done = [*_take_while_settled(outcomes)]
        if asked.is_here and len(done) < len(outcomes):
            return  # a late answer in part: all of them were asked here since
        asked.before += done
        if len(done) == len(outcomes):
            asked.reply.set_result(asked.before)
            return
        rest = packets[sum(one.packets if isinstance(one, Accepted) else 1 for one in done) :]
        asked.message = AcceptMany(rest)
        if asked.number is not None:  # what answers the old message must not be taken for the new one's
            self._forget(asked.number, asked.reply)
            asked.number = None
        self._ask_again(asked, outcomes[len(done)])

    def _ask_again(self, asked: _Asked, error: Exception) -> None:
        if asked.is_here or asked.is_resting:
            return  # that was an answer to an earlier try, or one of several to the last
        self.counts.moved += 1
        asked.attempts += 1
        if asked.attempts >= _ATTEMPTS:
            asked.reply.set_exception(error)
            return
        wait = _FIRST_WAIT * 2 ** (asked.attempts - 1)
        asked.is_resting = True
        asyncio.get_running_loop().call_later(wait, self._end_rest, asked)

    def _end_rest(self, asked: _Asked) -> None:
        asked.is_resting = False
        if not asked.is_here:
            self._try(asked, self._route)

    def _try(self, asked: _Asked, way: Any) -> None:
        if asked.reply.done():
            return
        try:
            way(asked)
        except MOVED as error:
            asked.is_here = False
            self._ask_again(asked, error)
        except Unavailable as error:
            asked.reply.set_exception(error)

    async def _look_after(self) -> None:
        """See to messages that nobody has answered for a while, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            waiting = [one for one in self._asked.values() if not one.is_here]
            if not self.is_up:
                self._take_over(waiting)
                continue
            # Who asks once more about a call that has been silent does not wait from the beginning.
            horizon = _now() - _SILENCE
            silent = {one.call_id for one in waiting if one.asked_at < horizon}
            if silent:
                await self._look_at([one for one in waiting if one.call_id in silent][:_LOOK_BATCH], horizon)

    async def _look_at(self, silent: Sequence[_Asked], horizon: float) -> None:
        try:
            found = await self._local.find_out_of_reach([*{one.call_id for one in silent}])
        except StorageUnavailable:
            return
        out_of_reach = frozenset(found)
        self._take_over(one for one in silent if one.call_id in out_of_reach)
        for asked in silent:
            # The owner has not had it, or its answer was lost. What a person wants is not done twice.
            is_by_hand = isinstance(asked.message, RetryCall | CancelCall)
            if asked.sent_at < horizon and not asked.is_here and not is_by_hand:
                self._try(asked, self._route)

    def _take_over(self, silent: Iterable[_Asked]) -> None:
        for asked in silent:
            self.counts.taken += 1
            if isinstance(asked.message, RetryCall | CancelCall) and not asked.reply.done():
                asked.reply.set_exception(StorageUnavailable())  # it may be done: not to be done twice
            else:
                self._try(asked, self._on_nobody)


def _take_while_settled(outcomes: Sequence[Any]) -> Iterator[Any]:
    for outcome in outcomes:
        if isinstance(outcome, MOVED):
            return
        yield outcome


def _now() -> float:
    return asyncio.get_running_loop().time()
