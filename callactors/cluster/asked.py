"""Messages that wait for their answers, and the order of those of one call."""

from asyncio import Future
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import takewhile
from operator import attrgetter
from typing import Any, Final

from callactors.messages import CancelCall, Message, RetryCall

_PLACE: Final = attrgetter("place")


class State(Enum):
    """Where a message is."""

    OUT = auto()  # with others, or on its way anywhere
    HERE = auto()  # with the actor of this server
    RESTING = auto()  # its call has moved; it is sent again soon
    BEHIND = auto()  # another of its call holds it up


@dataclass(slots=True, eq=False)
class Asked:
    """A message that waits for its answer, from wherever it comes first.

    *place* rises in the order of asking, *number* is the name of its answer if others are to give that, and
    *before* are outcomes of packets that came together with those of *message*, and before them.
    """

    place: int
    call_id: str
    message: Message
    reply: "Future[Any]"
    reserved: bool
    context: object
    asked_at: float
    sent_at: float = 0.0
    number: str = ""
    attempts: int = 0
    state: State = State.OUT
    is_lined_up: bool = False
    before: Sequence[Any] = ()

    @property
    def may_be_done(self) -> bool:
        """Whether others may have done what a person wants, and nobody must do it a second time."""
        return self.state is State.OUT and isinstance(self.message, RetryCall | CancelCall)


class Lines:
    """Of each call the messages that no actor here has, as they were asked, and the one that holds others up.

    That one has met somebody who has the call no more: what was asked behind it waits until it is answered.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[Asked]] = {}
        self._stuck: dict[str, Asked] = {}

    def is_stuck(self, call_id: str) -> bool:
        """Whether a message of the call holds others up."""
        return call_id in self._stuck

    def holds_up(self, asked: Asked) -> bool:
        """Whether it is *asked*."""
        return self._stuck.get(asked.call_id) is asked

    def add(self, asked: Asked) -> None:
        """Give *asked* its place, unless it has it."""
        if not asked.is_lined_up:
            asked.is_lined_up = True
            insort(self._lines.setdefault(asked.call_id, []), asked, key=_PLACE)

    def remove(self, asked: Asked) -> None:
        """Forget *asked*, if it has a place."""
        if asked.is_lined_up:
            asked.is_lined_up = False
            line = self._lines[asked.call_id]
            line.remove(asked)
            if not line:
                del self._lines[asked.call_id]

    def before(self, asked: Asked) -> Sequence[Asked]:
        """Return those of the call that were asked before *asked*."""
        line = self._lines.get(asked.call_id)
        return [*takewhile(lambda one: one.place < asked.place, line)] if line else ()

    def stick(self, asked: Asked) -> None:
        """Let *asked* hold up what was asked behind it."""
        if asked.place <= self._stuck.setdefault(asked.call_id, asked).place:
            self._stuck[asked.call_id] = asked

    def free(self, call_id: str) -> Iterator[Asked]:
        """Yield what is to be sent now that nothing holds it up; that ends at the next one that does."""
        del self._stuck[call_id]
        for asked in [*self._lines.get(call_id, ())]:
            if asked.attempts:
                self.stick(asked)
            if asked.state is State.BEHIND:
                yield asked
            if call_id in self._stuck:
                return
