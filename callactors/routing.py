"""What a system and a router of calls between servers have of each other."""

from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from callactors.messages import Message


class Ask(Protocol):
    """Lets a call's actor have a message; the future is for its reply."""

    def __call__(
        self, call_id: str, message: Message, /, *, reserved: bool, context: object = None
    ) -> "Future[Any]": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCalls:
    """A system as its router sees it.

    *owner* is the name of this boot of the node as it stands in a call's row; only servers with the same
    *log_id*, the identity of the database's log, are one cluster. *has* tells whether a call has an actor in
    memory. *admit* raises what is Unavailable if new work is not welcome; so does *ask*, which makes the
    actor of this server claim the call if need be. *find_out_of_reach* returns those of some calls that no
    server has which others reach, and may raise StorageUnavailable. *poke_feed* is called when others have
    committed events, *tell_routed* when the router has come up or gone down.
    """

    owner: str
    log_id: str
    has: Callable[[str], bool]
    admit: Callable[[], None]
    ask: Ask
    find_out_of_reach: Callable[[Sequence[str]], Awaitable[Sequence[str]]]
    poke_feed: Callable[[], None]
    tell_routed: Callable[[], None]


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

    def open(self, local: LocalCalls) -> None:
        """Work for *local* from now on."""

    async def run(self) -> None:
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
