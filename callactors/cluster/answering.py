"""The side of a router that answers: other servers' messages for the calls that are here."""

from asyncio import Future
from functools import partial
from typing import Any, Final

from nats.aio.msg import Msg

from callactors.cluster.link import HEADROOM, Link, Subjects
from callactors.cluster.wire import TooLong, read_message, write_reply
from callactors.errors import ActorStopped, Draining, Fenced, Unavailable
from callactors.messages import Accept, AcceptMany, Describe
from callactors.routing import LocalCalls, RouteCounts

MOVED: Final = (Fenced, ActorStopped, Draining)
"""Answers to a message that was not stored, and may be where it is asked again."""


class Answering:
    """Lets actors of *local* have messages, and sends their replies."""

    def __init__(self, local: LocalCalls, subjects: Subjects, link: Link, counts: RouteCounts) -> None:
        self._local = local
        self._subjects = subjects
        self._link = link
        self._counts = counts
        self._under_way: set[str] = set()

    def take(self, message: Msg, *, is_leaving: bool) -> None:
        """Take a message, and answer when its call's actor does; at once if it is not here any more."""
        subject, call_id = message.reply, self._subjects.read_call(message.subject)
        if not subject or subject in self._under_way:
            return  # nobody waits, or it was sent again while the first is being stored
        if is_leaving or not self._local.has(call_id):
            self._send(subject, Fenced())
            return
        asked = read_message(message.data)
        try:
            if not isinstance(asked, Describe):
                self._local.admit()
            inner = self._local.ask(call_id, asked, reserved=not isinstance(asked, Accept | AcceptMany))
        except Unavailable as error:
            self._send(subject, error)
            return
        self._counts.answered += 1
        self._under_way.add(subject)
        inner.add_done_callback(partial(self._answer, subject))

    def _answer(self, subject: str, inner: "Future[Any]") -> None:
        self._under_way.discard(subject)
        if not inner.cancelled():
            self._send(subject, inner.exception() or inner.result())

    def _send(self, subject: str, reply: object) -> None:
        payload = write_reply(reply)
        if len(payload) > self._link.max_payload - HEADROOM:
            payload = write_reply(TooLong())
        self._link.send(subject, payload)
