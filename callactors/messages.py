"""What lies in a call's mailbox: small frozen types, a closed set but for an embedder's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from callactors.packets import CompleteRequest, EndReason, Packet
from callactors.retry import Outcome

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Accept:
    """A packet has come; the reply is an Accepted."""

    packet: Packet


@dataclass(frozen=True, slots=True)
class AcceptMany:
    """Packets have come together; the reply is a list of Accepted and exceptions for them, in order.

    An Accepted may stand for several, see its `packets`.
    """

    packets: Sequence[Packet]


@dataclass(frozen=True, slots=True)
class Complete:
    """The call is over; the reply is a Completed."""

    request: CompleteRequest


@dataclass(frozen=True, slots=True)
class BeginStream:
    """A vendor's stream has begun, or goes on over another connection; the reply is None.

    *server* is where its connection is: that boot of a node, see `CallSystem.server`.
    """

    stream: str
    metadata: Mapping[str, Any]
    server: str = ""


@dataclass(frozen=True, slots=True)
class EndStream:
    """A vendor's stream is over, and with its last one perhaps the call; the reply is None.

    With *server*, only if it does not go on over a connection to another one.
    """

    stream: str
    ends_call: bool
    server: str = ""


@dataclass(frozen=True, slots=True)
class DropStream:
    """The connection of a vendor's stream was lost; *server* is as in EndStream. The reply is None."""

    stream: str
    server: str = ""


@dataclass(frozen=True, slots=True)
class TellStatus:
    """A provider's callback has come; the same *key* comes with its repeats. The reply is None."""

    key: str
    detail: Mapping[str, Any]
    ends: EndReason | None


@dataclass(frozen=True, slots=True)
class RetryCall:
    """A person wants the AI step of a failed call to run again; the reply is the number of its generation."""


@dataclass(frozen=True, slots=True)
class CancelCall:
    """A person wants a live call to end; the reply is None."""


@dataclass(frozen=True, slots=True)
class Describe:
    """The reply is the call's Row when all before is committed; None if the call is not this server's."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Something may be due: the end of the call or its grace, the next attempt, a crashed one's count."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt of the AI step has ended."""

    generation: int
    attempt: int
    outcome: Outcome


class OwnMessage(Generic[R]):
    """Base of messages of an application's own; the reply is an R, from its actor's `receive_other`."""

    __slots__ = ()


FromVendor: TypeAlias = BeginStream | EndStream | DropStream | TellStatus
ByHand: TypeAlias = RetryCall | CancelCall
Message: TypeAlias = (
    Accept | AcceptMany | Complete | FromVendor | ByHand | Describe | Wake | AttemptEnded | OwnMessage[Any]
)
