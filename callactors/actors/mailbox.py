"""What waits for an actor."""

from bisect import insort
from collections.abc import Iterable
from operator import attrgetter
from time import monotonic
from typing import Any, Final, Generic, Protocol, TypeVar

from callactors.errors import MailboxFull

M = TypeVar("M")

_ARRIVAL: Final = attrgetter("arrival")


class Reply(Protocol):
    """Where a reply goes: what an asyncio Future has of it."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...


class Envelope(Generic[M]):
    """A message and, if somebody asked, the future that takes the reply.

    Answering is safe whatever became of the asker: a reply that is done or cancelled is left alone. *context*
    is whatever the asker gave along.
    """

    __slots__ = ("arrival", "context", "error", "made_at", "message", "reply", "tries")

    def __init__(self, message: M, reply: Reply | None = None, context: object = None) -> None:
        self.message = message
        self.reply = reply
        self.context = context
        self.arrival = 0
        """Which one in its mailbox it was, from 1."""
        self.error: Exception | None = None
        """What `receive_now` raised on it."""
        self.tries = 0
        """How often it came back undone; the actor counts."""
        self.made_at = monotonic()

    def answer(self, value: object) -> None:
        """Give *value* to the asker, if there is one who still waits."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(value)

    def fail(self, error: Exception) -> None:
        """Raise *error* at the asker, if there is one who still waits."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception(error)


class Mailbox(Generic[M]):
    """A bounded queue of envelopes, first in, first out.

    A plain list: empty it costs 56 bytes, and mailboxes are short.
    """

    __slots__ = ("_arrivals", "_items", "_limit")

    def __init__(self, limit: int) -> None:
        self._arrivals = 0
        self._items: list[Envelope[M]] = []
        self._limit = limit

    def __len__(self) -> int:
        return len(self._items)

    @property
    def oldest(self) -> float:
        """When the oldest envelope was made, if there is one."""
        return self._items[0].made_at

    def put(self, envelope: Envelope[M], *, reserved: bool = False) -> None:
        """Add *envelope* behind the others; a *reserved* one is never refused.

        Raises:
            MailboxFull: the limit is reached.
        """
        if not reserved and len(self._items) >= self._limit:
            raise MailboxFull
        self.count(envelope)
        self._items.append(envelope)

    def count(self, envelope: Envelope[M]) -> None:
        """Give *envelope* its place in the order of arrivals, although it does not stay."""
        self._arrivals += 1
        envelope.arrival = self._arrivals

    def put_back(self, envelopes: Iterable[Envelope[M]]) -> None:
        """Put *envelopes*, which were taken before, in front of all that arrived after them."""
        for envelope in envelopes:
            insort(self._items, envelope, key=_ARRIVAL)

    def take(self) -> Envelope[M]:
        """Remove and return the oldest envelope.

        Raises:
            IndexError: the mailbox is empty.
        """
        return self._items.pop(0)
