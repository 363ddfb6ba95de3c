"""What lies in a call's mailbox: small frozen types, a closed set."""

from collections.abc import Sequence
from dataclasses import dataclass

from callactors.packets import CompleteRequest, Packet
from callactors.retry import Outcome


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
class Describe:
    """The reply is the call's Row when all before is committed; None if the call is not this server's."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Something may be due: the end of the grace, the next attempt, the count of one that crashed."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt of the AI step has ended."""

    generation: int
    attempt: int
    outcome: Outcome


Message = Accept | AcceptMany | Complete | Describe | Wake | AttemptEnded
