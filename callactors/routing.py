"""What a system and a router of calls between servers have of each other."""

from asyncio import Future
from collections.abc import Sequence
from typing import Any, Protocol

from callactors.messages import Message


class LocalCalls(Protocol):
    """A system as the router sees it."""

    @property
    def owner(self) -> str:
        """The name of this boot of the node, as it stands in a call's row."""

    @property
    def log_id(self) -> str:
        """The identity of the database's log: only servers on the same one are one cluster."""

    def has(self, call_id: str) -> bool:
        """Whether the call has an actor in memory."""

    def ask_here(
        self, call_id: str, message: Message, *, reserved: bool, context: object = None
    ) -> "Future[Any]":
        """Let the call's actor on this server have *message*, which makes it claim the call if need be.

        Raises:
            Unavailable: it cannot have it.
        """

    async def find_out_of_reach(self, call_ids: Sequence[str]) -> Sequence[str]:
        """Return those of *call_ids* that no server has which others reach.

        Raises:
            StorageUnavailable: the database does not answer.
        """

    def tell_routed(self) -> None:
        """Say that the router has come up or gone down."""

    def poke_feed(self) -> None:
        """Say that another server has committed events."""


class RouteCounts:
    """What a router did; numbers that only rise."""

    def __init__(self) -> None:
        self.asked = 0
        """Messages sent to other servers."""
        self.answered = 0
        """Messages of other servers that were taken here."""
        self.claimed = 0
        """Messages taken here since no server has the call."""
        self.moved = 0
        """Answers that a call has moved on."""
        self.taken = 0
        """Messages taken here since their call's owner is dead, or not to be reached."""


class Router(Protocol):
    """Brings messages to the call's actor, on whichever server it is."""

    counts: RouteCounts

    @property
    def is_up(self) -> bool:
        """Whether the other servers can be reached; if not, every call is claimed where it is asked for."""

    async def run(self, local: LocalCalls) -> None:
        """Serve until cancelled."""

    def ask(self, call_id: str, message: Message, *, reserved: bool, context: object = None) -> "Future[Any]":
        """Return a future for the reply of the call's actor.

        Raises:
            Unavailable: it is on this server and cannot have the message.
        """

    def hold(self, call_id: str) -> None:
        """Have the call's messages come to this server, which owns it now."""

    def let_go(self, call_id: str) -> None:
        """Have them come no more."""

    def let_all_go(self) -> None:
        """Have no messages come any more, nor hold another call: the server stops."""

    def poke(self) -> None:
        """Tell the other servers that events were committed."""
