"""What vendors have told while it could not be stored, for longer than their connections are kept for it."""

from asyncio import Future
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from callactors.errors import StorageRefused, Unavailable
from callactors.messages import FromVendor


class _News(NamedTuple):
    call_id: str
    message: FromVendor
    is_outdated: Callable[[], bool]


class Untold:
    """Tells it again, with *hear*, each time the database has answered, until it is stored."""

    def __init__(self, hear: Callable[[str, FromVendor], "Future[None]"]) -> None:
        self._hear = hear
        self._news: list[_News] = []

    def __len__(self) -> int:
        return len(self._news)

    def add(self, call_id: str, message: FromVendor, *, is_outdated: Callable[[], bool]) -> None:
        """Have *message* told to the call, unless it *is_outdated* by then."""
        self._news.append(_News(call_id, message, is_outdated))

    def tell(self) -> None:
        """Tell all of it."""
        news, self._news = self._news, []
        for one in news:
            if one.is_outdated():
                continue
            try:
                reply = self._hear(one.call_id, one.message)
            except Unavailable:
                self._news.append(one)
            else:
                reply.add_done_callback(partial(self._on_heard, one))

    def _on_heard(self, one: _News, reply: "Future[None]") -> None:
        if reply.cancelled():
            return
        error = reply.exception()  # a call that takes nothing more needs to hear nothing more
        if isinstance(error, Unavailable) and not isinstance(error, StorageRefused):
            self._news.append(one)
