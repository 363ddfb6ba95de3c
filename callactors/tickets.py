"""The tickets of a call's changes: who is told what once the journal has settled them."""

from collections.abc import Callable

from callactors.actors import Envelope
from callactors.call import Change
from callactors.messages import Accept, Message
from callactors.packets import Packet
from callactors.store.journal import Verdict, Writer

OnSettled = Callable[["CallTicket", Verdict], None]


class CallTicket:
    """A change in the journal; *answer* is for who sent the message, once the change is stored."""

    __slots__ = ("_envelope", "_on_settled", "answer", "change", "size", "writer")

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
        self.size = 0

    def settle(self, verdict: Verdict) -> None:
        self._on_settled(self, verdict)

    def tell(self, answer: object) -> None:
        """Give *answer* to who sent the message, or raise it there if it is an exception."""
        if isinstance(answer, Exception):
            self._envelope.fail(answer)
        else:
            self._envelope.answer(answer)

    def envelope(self) -> Envelope[Message]:
        """Return the message, to decide it again."""
        return self._envelope


class Outcomes:
    """What became of packets that came together: the envelope is answered when the last outcome is known."""

    __slots__ = ("_known", "_unknown", "envelope")

    def __init__(self, envelope: Envelope[Message], wanted: int) -> None:
        self.envelope = envelope
        self._known: list[object] = [None] * wanted
        self._unknown = wanted

    def put(self, index: int, outcome: object) -> None:
        """Take the outcome of one packet."""
        self._known[index] = outcome
        self._unknown -= 1
        if not self._unknown:
            self.envelope.answer(self._known)


class PartTicket(CallTicket):
    """The ticket of one of many packets that came together."""

    __slots__ = ("_index", "_outcomes", "_packet")

    def __init__(
        self,
        on_settled: OnSettled,
        writer: Writer,
        change: Change,
        answer: object,
        packet: Packet,
        outcomes: Outcomes,
        index: int,
    ) -> None:
        super().__init__(on_settled, writer, change, outcomes.envelope, answer)
        self._packet = packet
        self._outcomes = outcomes
        self._index = index

    def tell(self, answer: object) -> None:
        self._outcomes.put(self._index, answer)

    def envelope(self) -> Envelope[Message]:
        """Return the packet as a message of its own, in the place where the many came."""
        envelope: Envelope[Message] = Envelope(Accept(self._packet), _PartReply(self._outcomes, self._index))
        envelope.arrival = self._envelope.arrival
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
