"""The base of every actor."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from callactors.actors.mailbox import Envelope

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")

if TYPE_CHECKING:
    from collections.abc import Sequence


class Home(Protocol[M]):
    """What an actor may ask of the place it lives in.

    A timer or task may hold on to it: after a failure it serves the next incarnation, and once the actor
    is forgotten it does no harm.
    """

    def tell(self, message: M) -> None:
        """Put *message* into the actor's own mailbox; never refused, dropped if the actor is forgotten."""

    def put_back(self, envelopes: "Sequence[Envelope[M]]") -> None:
        """Return *envelopes* to the mailbox, in front of all that arrived after them.

        If the actor is forgotten, they are answered with `ActorStopped`.
        """

    def leave(self) -> None:
        """Passivate the actor as soon as its mailbox is empty, busy or not, and idle for long or not."""


class Actor(Generic[K, M]):
    """One key's single writer: the registry runs one hook at a time.

    Subclasses override `receive`, and the other hooks as they need. An actor may lose its memory at any time
    (passivation, failure), so what must last is stored before it is answered.
    """

    __slots__ = ("home", "key")

    def __init__(self, key: K, home: Home[M]) -> None:
        self.key = key
        self.home = home

    @property
    def is_busy(self) -> bool:
        """Whether the actor must stay resident although its mailbox is empty."""
        return False

    async def on_start(self) -> None:
        """Run before the first message."""

    async def receive(self, envelope: Envelope[M]) -> None:
        """Take one message, and answer its envelope now or hand it on to who will."""
        raise NotImplementedError

    def receive_now(self, envelope: Envelope[M]) -> bool:
        """Take one message as `receive` does if nothing has to be waited for; else leave it and return False.

        A short cut that spares a task. Whoever overrides `receive` overrides this too.
        """
        return False

    async def on_failure(self, error: Exception, failures: int) -> None:
        """Run after `receive` raised *error*, the *failures*-th time (up to 100) in the registry's window.

        The actor is replaced by a new one afterwards.
        """

    async def on_stop(self) -> None:
        """Run before the actor is forgotten; messages that arrive meanwhile go to the next incarnation."""
