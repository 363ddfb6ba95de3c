"""The tickets of a call's changes: who is told what once the journal has settled them."""

from collections.abc import Callable, Sequence
from typing import Final

from callactors.actors import Envelope
from callactors.actors.actor import Home
from callactors.errors import Fenced, SequenceConflict, StorageRefused, StorageUnavailable
from callactors.facts import Change
from callactors.messages import Accept, Message
from callactors.packets import Packet
from callactors.store.writer import Verdict, Writer

OnSettled = Callable[["CallTicket", Verdict], None]

MAX_TRIES: Final = 3  # how often a message may meet another owner before it is refused


class CallTicket:
    """A change in the journal; *answer* is for who sent the message, once the change is stored."""

    __slots__ = ("_envelope", "_on_settled", "answer", "change", "count", "size", "writer")

    def __init__(
        self,
        on_settled: OnSettled,
        writer: Writer,
        change: Change,
        envelope: Envelope[Message],
        answer: object,
    ) -> None:
        self._on_settled = on_settled
        self._envelope = envelope
        self.writer = writer
        self.change = change
        self.answer = answer
        self.count = 0
        self.size = 0

    @property
    def is_awaited(self) -> bool:
        return self._envelope.reply is not None

    @property
    def asked_at(self) -> float:
        """When the message came, by the monotonic clock."""
        return self._envelope.made_at

    def settle(self, verdict: Verdict) -> None:
        self._on_settled(self, verdict)

    def tell(self, answer: object) -> None:
        """Give *answer* to who sent the message, or raise it there if it is an exception."""
        if isinstance(answer, Exception):
            self._envelope.fail(answer)
        else:
            self._envelope.answer(answer)

    def envelopes(self) -> list[Envelope[Message]]:
        """Return what to decide again."""
        return [self._envelope]


def take_back(ticket: CallTicket, verdict: Verdict, home: Home[Message], *, max_tries: int) -> None:
    """Answer who asked for a change that was not stored, or let it be decided again, as *verdict* wants."""
    packets = ticket.change.packets
    match verdict:
        case Verdict.FENCED:
            for envelope in ticket.envelopes():
                try_again(envelope, home, max_tries=max_tries)
        case Verdict.CONFLICT if len(packets) == 1:
            ticket.tell(SequenceConflict(ticket.writer.call_id, packets[0].stream, packets[0].sequence))
        case Verdict.REFUSED if len(packets) <= 1:
            ticket.tell(StorageRefused("see the server's log"))
        case Verdict.ABANDONED:
            ticket.tell(StorageUnavailable())
        case _:  # of many packets only the guilty one is to be refused, and each compared with what is stored
            home.put_back(ticket.envelopes())


def try_again(envelope: Envelope[Message], home: Home[Message], *, max_tries: int) -> None:
    """Let *envelope*, which has met another owner, be decided under a claim of our own, if somebody waits.

    It may meet others *max_tries* times in all.
    """
    envelope.tries += 1
    if envelope.reply is not None and envelope.tries < max_tries:
        home.put_back([envelope])
        return
    envelope.fail(Fenced())  # timers and attempts are the new owner's to repeat
    home.leave()  # the sweeper takes a call that has an actor here for one that is cared for


class Outcomes:
    """What became of packets that came together: the envelope is answered when the last outcome is known."""

    __slots__ = ("_known", "_unknown", "envelope")

    def __init__(self, envelope: Envelope[Message], wanted: int) -> None:
        self.envelope = envelope
        self._known: list[object] = [None] * wanted
        self._unknown = wanted

    def put(self, index: int, outcome: object, count: int = 1) -> None:
        """Take the outcome of the packet at *index*, or of as many as *count* from there on."""
        self._known[index] = outcome
        self._unknown -= count
        if not self._unknown:
            self.envelope.answer([outcome for outcome in self._known if outcome is not None])


class PartTicket(CallTicket):
    """The ticket of some of the packets that came together: one, or a run of them."""

    __slots__ = ("_index", "_outcomes", "_packets")

    def __init__(
        self,
        on_settled: OnSettled,
        writer: Writer,
        change: Change,
        answer: object,
        packets: Sequence[Packet],
        outcomes: Outcomes,
        index: int,
    ) -> None:
        super().__init__(on_settled, writer, change, outcomes.envelope, answer)
        self._packets = packets
        self._outcomes = outcomes
        self._index = index

    def tell(self, answer: object) -> None:
        if answer is self.answer:
            self._outcomes.put(self._index, answer, len(self._packets))
        else:
            for index in range(self._index, self._index + len(self._packets)):
                self._outcomes.put(index, answer)

    def envelopes(self) -> list[Envelope[Message]]:
        """Return each packet as a message of its own, in the place where the many came."""
        return [self._single(number, packet) for number, packet in enumerate(self._packets, self._index)]

    def _single(self, index: int, packet: Packet) -> Envelope[Message]:
        envelope: Envelope[Message] = Envelope(Accept(packet), _PartReply(self._outcomes, index))
        envelope.arrival, envelope.made_at = self._envelope.arrival, self._envelope.made_at
        return envelope


class _PartReply:
    """The place of one packet's outcome; to its envelope it is the reply."""

    __slots__ = ("_index", "_outcomes")

    def __init__(self, outcomes: Outcomes, index: int) -> None:
        self._outcomes = outcomes
        self._index = index

    def done(self) -> bool:
        return False

    def set_result(self, result: object, /) -> None:
        self._outcomes.put(self._index, result)

    def set_exception(self, exception: Exception, /) -> None:
        self._outcomes.put(self._index, exception)
