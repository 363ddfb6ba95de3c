"""Messages and replies between servers: all that is written is read as it was."""

import pytest

from callactors import errors
from callactors.cluster.wire import TooLong, read_message, read_reply, write_message, write_reply
from callactors.errors import (
    ActorFailed,
    CallClosed,
    CallError,
    CallNotFailed,
    Fenced,
    MailboxFull,
    SequenceConflict,
    SequenceWindow,
    Unavailable,
)
from callactors.facts import Accepted, Completed, Facts, Row
from callactors.legs import Legs
from callactors.messages import (
    Accept,
    AcceptMany,
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
)
from callactors.packets import CompleteRequest, EndReason, Packet, PacketKind
from callactors.sequence import StreamSequence
from callactors.states import CallState

PACKET = Packet(sequence=2**63 - 1, data="é\n\u2028", timestamp=1.5, stream="s", kind=PacketKind.DTMF)
MESSAGES: list[Message] = [
    Accept(PACKET),
    AcceptMany([PACKET, PACKET]),
    BeginStream("s", {"rate": 8_000, "deep": {"er": [None, 1.5]}}, "node/1"),
    CancelCall(),
    Complete(CompleteRequest(last_sequence={"": 3}, reason=EndReason.BUSY, metadata={"agent": "7"})),
    Describe(),
    DropStream("s", "node/1"),
    EndStream("s", ends_call=True, server="node/1"),
    RetryCall(),
    TellStatus("k", {"status": "busy"}, EndReason.BUSY),
]
ROW = Row(
    Facts(CallState.COMPLETED, 3, 2, 1, is_attempting=True, wake_in=0.5, end_reason=EndReason.API),
    {"": StreamSequence(9, ((2, 3), (5, 5)))},
    packets=7,
    late=1,
    duplicates=2,
    legs=Legs(frozenset("a"), frozenset("b"), ("k",), 4, {"a": "node/1"}),
    metadata={"agent": "7"},
)
REPLIES: list[object] = [
    Accepted(
        "s", 4, is_duplicate=False, is_late=True, gap=(2, 3), total_received=9, gaps=[(2, 3)], packets=2
    ),
    Completed(was_completed=True, state=CallState.ARCHIVED, missing={"": [(4, 5)]}),
    ROW,
    None,
    7,
    TooLong(),
]
REFUSALS: list[Exception] = [
    CallClosed("c", CallState.ARCHIVED),
    CallNotFailed("c", CallState.COMPLETED),
    SequenceConflict("c", "s", 4),
    SequenceWindow("c", "s", 4, 100),
    MailboxFull(),
    Fenced(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_as_it_was_sent(message: Message) -> None:
    data = write_message(message)
    assert data is not None
    assert read_message(data) == message


class Own(OwnMessage[None]):
    """What an application has made up, under whatever name."""


Own.__name__ = "Accept"


def test_an_application_s_own_message_stays_on_its_server() -> None:
    assert write_message(Own()) is None


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_a_reply_comes_as_it_was_given(reply: object) -> None:
    assert read_reply(write_reply(reply)) == reply


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_a_refusal_comes_as_it_was(error: Exception) -> None:
    found = read_reply(write_reply(error))
    assert type(found) is type(error)
    assert (str(found), vars(found)) == (str(error), vars(error))


def test_the_outcomes_of_many_packets_come_in_their_order() -> None:
    outcomes = [REPLIES[0], SequenceConflict("c", "s", 4), Fenced()]
    found = read_reply(write_reply(outcomes))
    assert isinstance(found, list)
    assert [type(one) for one in found] == [Accepted, SequenceConflict, Fenced]
    assert found[0] == outcomes[0]


def test_every_error_that_a_call_or_a_server_answers_with_can_be_sent() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    sent = [kind for kind in kinds if issubclass(kind, CallError | Unavailable)]
    assert len(sent) > 20
    for kind in sent:
        error = kind.__new__(kind, "why")
        assert type(read_reply(write_reply(error))) is kind


def test_an_error_of_another_kind_is_told_as_a_failure_that_may_pass() -> None:
    """Who asks over HTTP is answered with a problem; an error that has none would be a 500."""
    told = write_reply(ZeroDivisionError("secret"))
    assert b"secret" not in told
    assert type(read_reply(told)) is ActorFailed
    newer = read_reply(write_reply(Fenced()).replace(b"Fenced", b"FromANewerServer"))
    assert (type(newer), str(newer)) == (ActorFailed, str(Fenced()))


@pytest.mark.parametrize("data", [b"", b"Nonsense\n{}", b"Accept\n{", b'Accept\n{"packet": 1}', b"\xff\n1"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_message(data)
