"""The changes of one call on their way to the disk, and what becomes of them."""

import asyncio
from asyncio import Future
from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from callactors.facts import Change


class Verdict(Enum):
    """What became of a change."""

    STORED = auto()
    CONFLICT = auto()  # its packet is stored with other data; it had no other effect
    FENCED = auto()  # another owner has the call; nothing was stored: claim and decide again
    REFUSED = auto()  # the database refuses this very change
    RETURNED = auto()  # one before it was refused; nothing was stored: claim and decide again
    ABANDONED = auto()  # the journal has stopped; whether it was stored is not known


class Ticket(Protocol):
    """A change on its way to the disk. The journal keeps here what it counts for, and its size in bytes."""

    count: int
    size: int

    @property
    def change(self) -> Change: ...

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the verdict."""

    def settle(self, verdict: Verdict) -> None:
        """Take the verdict: called once, in the order of submission; must not raise."""


class Batches(Protocol):
    """Where the changes of many calls wait for a commit together."""

    def add(self, writer: "Writer", ticket: Ticket) -> None:
        """Count *ticket*, and commit what *writer* has waiting when it is its turn."""

    def remove(self, tickets: Sequence[Ticket]) -> None:
        """Count *tickets* no more: they are settled."""


class Writer:
    """The single way to the disk for one call under one claim.

    After a change was fenced or refused it takes no more: all later ones come back at once.
    """

    __slots__ = (
        "_batches",
        "_drained",
        "_failed",
        "call_id",
        "call_no",
        "epoch",
        "since",
        "unsettled",
        "waiting",
    )

    def __init__(self, batches: Batches, call_no: int, call_id: str, epoch: int) -> None:
        self.call_no = call_no
        self.call_id = call_id
        self.epoch = epoch
        self.since = 0.0
        self.unsettled = 0
        self.waiting: list[Ticket] = []
        self._batches = batches
        self._failed: Verdict | None = None
        self._drained: Future[None] | None = None

    def submit(self, ticket: Ticket) -> None:
        """Commit *ticket*'s change behind the earlier ones, and settle it."""
        if self._failed is not None:
            ticket.settle(self._failed)
            return
        self.unsettled += 1
        self.waiting.append(ticket)
        self._batches.add(self, ticket)

    def take(self, items: int, size: int, at_least: int) -> tuple[list[Ticket], int, int]:
        """Remove the first that wait, at most *items* and *size* but *at_least* so many tickets.

        Return them, their items and their size.
        """
        taken = count = total = 0
        for ticket in self.waiting:
            if taken >= at_least and (count + ticket.count > items or total + ticket.size > size):
                break
            taken += 1
            count += ticket.count
            total += ticket.size
        share = self.waiting[:taken]
        del self.waiting[:taken]
        return share, count, total

    async def drained(self) -> None:
        """Return when every change so far is settled. For one waiter at a time."""
        if self.unsettled:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def settle(self, tickets: Sequence[Ticket], verdict: Verdict) -> None:
        self.unsettled -= len(tickets)
        self._batches.remove(tickets)
        for ticket in tickets:
            ticket.settle(verdict)
        if not self.unsettled and self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None

    def settle_stored(self, tickets: Sequence[Ticket], conflicts: frozenset[tuple[int, int]]) -> None:
        if not conflicts:
            self.settle(tickets, Verdict.STORED)
            return
        for position, ticket in enumerate(tickets):
            is_conflict = (self.call_no, position) in conflicts
            self.settle([ticket], Verdict.CONFLICT if is_conflict else Verdict.STORED)

    def fail(self, tickets: Sequence[Ticket], verdict: Verdict) -> None:
        """Settle *tickets*, which were taken, and what waits behind them with *verdict*; take no more."""
        self._failed = verdict
        waiting, self.waiting = self.waiting, []
        self.settle(tickets, verdict)
        self.settle(waiting, verdict)
