"""The router: a message for a call that is not here goes to the server that has it, and its answer back.

The owner's answer, given after its commit, is the answer. Nobody listening on the call's subject means that
no server has it: then it is claimed here. Silence means nothing by itself: a call is claimed only if, by the
database, its owner is dead or not to be reached; else the message is sent again.

What is asked here of one call is decided in that order, wherever the call is: see `Lines`.
"""

import asyncio
from asyncio import Future
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

from nats.aio.msg import Msg

from callactors.cluster.answering import MOVED, Answering
from callactors.cluster.asked import Asked, Lines, State
from callactors.cluster.connection import NatsOptions
from callactors.cluster.link import HEADROOM, Link, Subjects
from callactors.cluster.wire import VERSION, TooLong, read_reply, write_message
from callactors.errors import Overloaded, StorageUnavailable, Unavailable
from callactors.facts import Accepted
from callactors.messages import AcceptMany, Describe, Message
from callactors.routing import LocalCalls, RouteCounts

_ATTEMPTS: Final = 9  # how often a message may meet somebody who has the call no more
_FIRST_WAIT: Final = 0.005  # seconds before the second, each wait twice the one before: 1.3 s in all
_SILENCE: Final = 0.5  # seconds without an answer behind which the database is asked for the owner
_LOOK_INTERVAL: Final = 0.1
_LOOK_BATCH: Final = 500
_POKE_INTERVAL: Final = 0.005
_MAX_ASKED: Final = 20_000  # messages that wait for other servers
_NO_RESPONDERS: Final = "503"


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
        self._asked: dict[str, Asked] = {}
        self._lines = Lines()
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
        asked = Asked(next(self._numbers), call_id, message, reply, reserved, context, _now())
        if self._lines.is_stuck(call_id):
            self._line_up(asked, State.BEHIND)
        else:
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

    def _route(self, asked: Asked) -> None:
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
        self._line_up(asked, State.OUT)
        self.counts.asked += 1
        asked.sent_at = _now()
        subject, reply = self._subjects.of_call(asked.call_id), self._subjects.of_answer(asked.number)
        self._link.send(subject, payload, reply)

    def _line_up(self, asked: Asked, state: State) -> None:
        """Keep *asked*, among those of its call, until it is answered or the actor here has it."""
        if not asked.number:
            if len(self._asked) >= _MAX_ASKED:
                raise Overloaded("too many messages wait for other servers")
            self._number(asked)
            asked.reply.add_done_callback(partial(self._forget, asked))
        self._lines.add(asked)
        asked.state = state

    def _number(self, asked: Asked) -> None:
        asked.number = str(next(self._numbers))
        self._asked[asked.number] = asked

    def _forget(self, asked: Asked, _: "Future[Any]") -> None:
        del self._asked[asked.number]
        self._lines.remove(asked)
        if self._lines.holds_up(asked):
            for one in self._lines.free(asked.call_id):
                self._try(one, self._route)

    def _ask_here(self, asked: Asked) -> None:
        """Let the actor here have *asked*, behind what was asked before and others have not answered."""
        for one in self._lines.before(asked):
            if not one.may_be_done and not isinstance(one.message, Describe):
                self._try(one, self._hand_over)
        self._hand_over(asked)

    def _hand_over(self, asked: Asked) -> None:
        self._lines.remove(asked)
        asked.state = State.HERE
        inner = self._local.ask(asked.call_id, asked.message, reserved=asked.reserved, context=asked.context)
        inner.add_done_callback(partial(self._on_local, asked))

    def _on_local(self, asked: Asked, inner: "Future[Any]") -> None:
        if not inner.cancelled():
            asked.state = State.OUT
            self._take(asked, inner.exception() or inner.result())

    def _on_answer(self, token: str, message: Msg) -> None:
        asked = self._asked.get(token)
        if asked is None:
            return  # it was answered already, or is not waited for any more
        if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
            self._try(asked, self._on_nobody)
        else:
            self._take(asked, read_reply(message.data))

    def _on_nobody(self, asked: Asked) -> None:
        if asked.state is State.HERE or asked.reply.done():
            return
        if isinstance(asked.message, Describe):
            asked.reply.set_result(None)
            return
        self.counts.claimed += 1
        self._ask_here(asked)

    def _take(self, asked: Asked, outcome: object) -> None:
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

    def _take_many(self, asked: Asked, packets: Sequence[Any], outcomes: Sequence[Any]) -> None:
        """Keep the outcomes up to the first packet that met another owner, and ask again for the rest."""
        done = [*_take_while_settled(outcomes)]
        if asked.state is State.HERE and len(done) < len(outcomes):
            return  # a late answer in part: all of them were asked here since
        asked.before = [*asked.before, *done]
        if len(done) == len(outcomes):
            asked.reply.set_result(asked.before)
            return
        rest = packets[sum(one.packets if isinstance(one, Accepted) else 1 for one in done) :]
        asked.message = AcceptMany(rest)
        if asked.number:  # what answers the old message must not be taken for the new one's
            del self._asked[asked.number]
            self._number(asked)
        self._ask_again(asked, outcomes[len(done)])

    def _ask_again(self, asked: Asked, error: Exception) -> None:
        if asked.state is not State.OUT:
            return  # that was an answer to an earlier try, or one of several to the last
        self.counts.moved += 1
        asked.attempts += 1
        if asked.attempts >= _ATTEMPTS:
            asked.reply.set_exception(error)
            return
        self._try(asked, self._rest)

    def _rest(self, asked: Asked) -> None:
        self._line_up(asked, State.RESTING)
        self._lines.stick(asked)
        wait = _FIRST_WAIT * 2 ** (asked.attempts - 1)
        asyncio.get_running_loop().call_later(wait, self._end_rest, asked)

    def _end_rest(self, asked: Asked) -> None:
        if asked.state is State.RESTING:
            asked.state = State.BEHIND
            if self._lines.holds_up(asked):
                self._try(asked, self._route)

    def _try(self, asked: Asked, way: Any) -> None:
        if asked.reply.done():
            return
        try:
            way(asked)
        except MOVED as error:
            asked.state = State.OUT
            self._ask_again(asked, error)
        except Unavailable as error:
            asked.reply.set_exception(error)

    async def _look_after(self) -> None:
        """See to messages that nobody has answered for a while, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_INTERVAL)
            waiting = [one for one in self._asked.values() if one.state is not State.HERE]
            if not self.is_up:
                self._take_over(waiting)
                continue
            # Who asks once more about a call that has been silent does not wait from the beginning.
            horizon = _now() - _SILENCE
            silent = {one.call_id for one in waiting if one.asked_at < horizon}
            if silent:
                await self._look_at([one for one in waiting if one.call_id in silent][:_LOOK_BATCH], horizon)

    async def _look_at(self, silent: Sequence[Asked], horizon: float) -> None:
        try:
            found = await self._local.find_out_of_reach([*{one.call_id for one in silent}])
        except StorageUnavailable:
            return
        out_of_reach = frozenset(found)
        self._take_over(one for one in silent if one.call_id in out_of_reach)
        for asked in silent:
            # The owner has not had it, or its answer was lost.
            if asked.state is State.OUT and asked.sent_at < horizon and not asked.may_be_done:
                self._try(asked, self._route)

    def _take_over(self, silent: Iterable[Asked]) -> None:
        for asked in silent:
            self.counts.taken += 1
            if asked.may_be_done and not asked.reply.done():
                asked.reply.set_exception(StorageUnavailable())
            else:
                self._try(asked, self._on_nobody)


def _take_while_settled(outcomes: Sequence[Any]) -> Iterator[Any]:
    for outcome in outcomes:
        if isinstance(outcome, MOVED):
            return
        yield outcome


def _now() -> float:
    return asyncio.get_running_loop().time()
