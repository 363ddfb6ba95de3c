"""Answers to messages for a call that another server has: they come from its row."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from callactors.actors import Envelope
from callactors.call import Call
from callactors.errors import CallClosed, CallError, Fenced, SequenceConflict
from callactors.facts import Accepted
from callactors.messages import (
    Accept,
    AcceptMany,
    AttemptEnded,
    BeginStream,
    CancelCall,
    Complete,
    Describe,
    DropStream,
    EndStream,
    Message,
    OwnMessage,
    RetryCall,
    TellStatus,
    Wake,
)
from callactors.packets import Packet

ReadData: TypeAlias = Callable[[str, str, int], Awaitable[str | None]]


async def answer_foreign(envelope: Envelope[Message], call: Call, read_data: ReadData) -> None:
    """Answer *envelope* from *call*, the row of one whose AI step another server runs: it takes nothing new.

    *read_data* takes call_id, stream and sequence and returns that packet's data.

    Raises:
        CallError: that is the answer.
        StorageUnavailable: the database does not answer.
    """
    match envelope.message:
        case Accept(packet):
            envelope.answer(await _compare(call, packet, read_data))
        case AcceptMany(packets):
            outcomes: list[Accepted | CallError] = []
            for packet in packets:
                try:
                    outcomes.append(await _compare(call, packet, read_data))
                except CallError as error:
                    outcomes.append(error)
            envelope.answer(outcomes)
        case Complete(request):
            _, completed = call.complete(request, grace=0, attempt_timeout=0)
            envelope.answer(completed)
        case BeginStream():
            envelope.fail(CallClosed(call.call_id, call.facts.state))
        case TellStatus() | RetryCall() | CancelCall() | OwnMessage():  # only its owner can do that
            envelope.fail(Fenced())
        case Describe() | EndStream() | DropStream():
            envelope.answer(None)
        case Wake() | AttemptEnded():
            pass


async def _compare(call: Call, packet: Packet, read_data: ReadData) -> Accepted:
    """Answer to a repeat; a new packet is refused."""
    _, accepted = call.accept(packet)
    if await read_data(call.call_id, packet.stream, packet.sequence) != packet.data:
        raise SequenceConflict(call.call_id, packet.stream, packet.sequence)
    return accepted
