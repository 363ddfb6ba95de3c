"""A snapshot of the calls for who begins to watch them, read in parts."""

from collections.abc import AsyncIterator, Callable, Set
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

from callactors.store import listing, summaries
from callactors.store.connection import Connection
from callactors.store.summaries import Place, Summary

PART: Final = 50  # calls: what is held for a client while it reads, and what one turn of the loop has to do
ENDED: Final = 500  # calls

Reading: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]
"""Lends a connection for one read."""


async def read_snapshot(reading: Reading, call_ids: Set[str]) -> AsyncIterator[tuple[list[Summary], bool]]:
    """Yield the calls of *call_ids*, or else those that have not ended and the ENDED that ended last.

    They come in parts, each with whether it is the last. No connection is held while one is looked at.

    Raises:
        StorageUnavailable: the database does not answer.
    """
    if call_ids:
        async with reading() as connection:
            named = await listing.read_named(connection, listing.Filters(), list(call_ids))
        yield named, True
        return
    after: Place | None = None
    is_full = True
    while is_full:
        async with reading() as connection:
            page = await summaries.read_live(connection, after, PART)
        if page:
            after = page[-1][0]
            yield [summary for _, summary in page], False
        is_full = len(page) == PART
    before: Place | None = None
    left = ENDED
    while True:
        async with reading() as connection:
            page = await summaries.read_ended(connection, before, min(PART, left))
        left -= len(page)
        is_last = len(page) < PART or not left
        yield [summary for _, summary in page], is_last
        if is_last:
            return
        before = page[-1][0]
