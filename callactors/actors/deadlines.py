"""One timer for all replies that are waited for: with one timeout they expire in the order of asking."""

from asyncio import Future, TimerHandle
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any


class Deadlines:
    """Fails each watched future with *error*() if it is not done after *timeout* seconds.

    A timer for each would cost more than all else about a reply.
    """

    def __init__(self, timeout: float, error: Callable[[], Exception]) -> None:
        self._timeout = timeout
        self._error = error
        self._watched: deque[tuple[float, Future[Any]]] = deque()
        self._timer: TimerHandle | None = None

    def watch(self, future: "Future[Any]") -> None:
        """Begin the time of *future*."""
        watched = self._watched
        while watched and watched[0][1].done():
            watched.popleft()
        watched.append((monotonic() + self._timeout, future))
        if self._timer is None:
            self._timer = future.get_loop().call_later(self._timeout, self._expire)

    def close(self) -> None:
        """Fail all that is watched still: nobody is left to answer."""
        watched, self._watched = self._watched, deque()
        for _, future in watched:
            if not future.done():
                future.set_exception(self._error())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        watched, now = self._watched, monotonic()
        while watched and (watched[0][1].done() or watched[0][0] <= now):
            _, future = watched.popleft()
            if not future.done():
                future.set_exception(self._error())
        self._timer = None
        if watched:
            due, future = watched[0]
            self._timer = future.get_loop().call_later(due - now, self._expire)
