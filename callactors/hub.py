"""The hub: topics, and subscriptions that lose nothing unnoticed. Knows no calls and no sockets."""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Generic, TypeVar

T = TypeVar("T")


class Ending(Enum):
    """Why a subscription has ended."""

    LAGGED = auto()  # its queue was full
    CLOSED = auto()  # the hub, or the subscriber, has closed it


class Subscription(Generic[T]):
    """A bounded queue of what was published on one topic since `Hub.subscribe`.

    When it is full it ends: the subscriber has missed something and must begin again.
    """

    def __init__(self, hub: "Hub[T]", topic: str, limit: int, on_end: Callable[[Ending], None]) -> None:
        self.ending: Ending | None = None
        self._hub = hub
        self._topic = topic
        self._limit = limit
        self._on_end = on_end
        self._items: deque[T] = deque()
        self._waiter: Future[None] | None = None

    @property
    def lag(self) -> int:
        """How many items wait."""
        return len(self._items)

    async def get(self) -> list[T]:
        """Return all items that wait, at least one; an empty list when the subscription has ended.

        For one waiter at a time.
        """
        if not self._items and self.ending is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        items = list(self._items)
        self._items.clear()
        return items

    def close(self) -> None:
        """Take nothing more, and tell nobody. What waits can still be got."""
        self._on_end = _nothing
        self.end(Ending.CLOSED)

    def put(self, item: T) -> None:
        if len(self._items) >= self._limit:
            self._items.clear()
            self.end(Ending.LAGGED)
            return
        self._items.append(item)
        self._wake()

    def end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self._hub.drop(self._topic, self)
            self._wake()
            self._on_end(ending)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hub(Generic[T]):
    """Fans items out to the subscriptions of their topic. Publishing never waits."""

    def __init__(self, *, limit: int = 4_000) -> None:
        self._limit = limit
        self._topics: dict[str, set[Subscription[T]]] = {}
        self._is_closed = False

    def subscribe(self, topic: str, on_end: Callable[[Ending], None] | None = None) -> Subscription[T]:
        """Return a subscription to what is published on *topic* from now on.

        *on_end* is called when it ends otherwise than by its own `close`. A closed hub's has ended already.
        """
        subscription = Subscription(self, topic, self._limit, on_end or _nothing)
        if self._is_closed:
            subscription.end(Ending.CLOSED)
        else:
            self._topics.setdefault(topic, set()).add(subscription)
        return subscription

    def publish(self, topic: str, item: T) -> None:
        """Give *item* to every subscription of *topic*; those that are full end."""
        for subscription in tuple(self._topics.get(topic, ())):
            subscription.put(item)

    def close(self) -> None:
        """End every subscription, for good."""
        self._is_closed = True
        for subscriptions in list(self._topics.values()):
            for subscription in tuple(subscriptions):
                subscription.end(Ending.CLOSED)

    def count(self, topic: str) -> int:
        """How many subscriptions *topic* has."""
        return len(self._topics.get(topic, ()))

    def drop(self, topic: str, subscription: Subscription[T]) -> None:
        subscriptions = self._topics.get(topic, set())
        subscriptions.discard(subscription)
        if not subscriptions:
            self._topics.pop(topic, None)


def _nothing(_: Ending) -> None:
    """Tell nobody."""
