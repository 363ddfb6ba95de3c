"""The decisions of a call about its packets and its end, one scene each."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callactors.call import ATTEMPT_MARGIN, MAX_STREAMS, Call
from callactors.errors import CallClosed, CallError, SequenceWindow, TooManyStreams
from callactors.facts import Accepted, Change, Completed, EventKind, Facts
from callactors.packets import MAX_SEQUENCE, CompleteRequest, EndReason, Packet
from callactors.sequence import MAX_GAPS
from callactors.states import CallState

TIMEOUT: Final = 30.0
WITHOUT_AI: Final = ["busy", "no_answer", "failed", "canceled", "poison"]


def packet(sequence: int, stream: str = "") -> Packet:
    return Packet(sequence=sequence, data="x", timestamp=1.0, stream=stream)


def call_with(*sequences: int) -> Call:
    call = Call("a")
    for sequence in sequences:
        call.accept(packet(sequence))
    return call


def accept(call: Call, sequence: int, stream: str = "") -> Accepted:
    return call.accept(packet(sequence, stream))[1]


def complete(call: Call, **request: Any) -> tuple[Change, Completed]:
    return call.complete(CompleteRequest(**request), grace=1.5, attempt_timeout=TIMEOUT)


def processing() -> Call:
    """Return a call with packet 1 whose AI step has started."""
    call = call_with(1)
    complete(call)
    call.end_grace(attempt_timeout=TIMEOUT)
    return call


def with_all_gaps(*first: int) -> Call:
    """Return a call whose stream misses 100 ranges of three after *first*, the first from 2 to 4."""
    return call_with(*first, *range(1, 4 * MAX_GAPS + 2, 4))


def with_all_streams() -> Call:
    call = Call("a")
    for number in range(MAX_STREAMS):
        accept(call, 1, str(number))
    return call


def path(change: Change) -> list[str]:
    """Return the states that the transitions of *change* lead to."""
    return [event.to_state for event in change.events if event.kind is EventKind.TRANSITION]


@given(
    before=st.lists(st.integers(0, 6), max_size=4),
    sent=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "b"])), min_size=1, max_size=12),
    is_complete=st.booleans(),
)
def test_a_run_is_decided_as_its_packets_would_be_one_by_one(
    before: list[int], sent: list[tuple[int, str]], is_complete: bool
) -> None:
    singly, together = call_with(*before), call_with(*before)
    if is_complete:
        complete(singly)
        complete(together)
    packets = [packet(*one) for one in sent]
    while packets:
        decided = together.accept_run(packets)
        if decided is None:
            assert singly.accept(packets[0]) == together.accept(packets[0])
            del packets[0]
            continue
        change, accepted = decided
        expected = [singly.accept(one) for one in change.packets]
        assert change == Change(packets[: accepted.packets])
        assert accepted == expected[-1][1]._replace(packets=len(expected))
        assert all(not (a.is_duplicate or a.is_late or a.gap) for _, a in expected)
        assert len(expected) > 1
        del packets[: len(expected)]
    assert together.row() == singly.row()


def test_a_run_is_taken_as_one_from_the_second_packet_on() -> None:
    call = call_with(1)
    decided = call.accept_run([packet(2), packet(3), packet(4), packet(6)])
    assert decided is not None
    assert decided[1] == Accepted("", 4, False, False, None, 4, (), 3)
    assert call.accept_run([packet(5)]) is None
    assert call.accept_run([packet(5), packet(6, "b")]) is None
    accept(call, 4, "b")
    assert call.accept_run([packet(5, "b"), packet(6)]) is None
    assert Call("a").accept_run([packet(1), packet(2)]) is None


def test_packets_in_order_are_neither_late_nor_a_gap() -> None:
    call = call_with(1, 2)
    assert accept(call, 3) == Accepted("", 3, False, False, None, 3, ())


def test_packet_after_a_gap_tells_what_is_missing_before_it() -> None:
    assert accept(call_with(1), 4) == Accepted("", 4, False, False, (2, 3), 2, ((2, 3),))


def test_first_packet_with_a_high_sequence_misses_from_1() -> None:
    assert accept(Call("a"), 3).gap == (1, 2)


def test_first_packet_with_sequence_0_misses_nothing() -> None:
    assert accept(Call("a"), 0) == Accepted("", 0, False, False, None, 1, ())


def test_packet_that_fills_a_gap_is_late() -> None:
    call = call_with(1, 4)
    assert accept(call, 2) == Accepted("", 2, False, True, None, 3, ((3, 3),))
    assert call.late == 1


def test_repeat_is_a_duplicate_and_still_goes_to_the_journal() -> None:
    call = call_with(1, 2)
    change, accepted = call.accept(packet(1))
    assert accepted == Accepted("", 1, True, False, None, 2, ())
    assert change == Change((packet(1),), is_repeat=True)
    assert call.duplicates == 1


def test_streams_count_each_for_itself() -> None:
    call = call_with(1, 2)
    assert accept(call, 2, "b") == Accepted("b", 2, False, False, (1, 1), 3, ((1, 1),))


def test_only_the_first_packet_of_a_named_stream_writes_the_row() -> None:
    call = Call("a")
    changes = [call.accept(packet(sequence, stream))[0] for stream in ("", "b") for sequence in (1, 2)]
    assert [change.row is not None for change in changes] == [False, False, True, False]


def test_packet_during_the_grace_is_taken_and_late() -> None:
    call = call_with(1)
    complete(call)
    assert accept(call, 2) == Accepted("", 2, False, True, None, 2, ())


def test_packet_after_the_ai_step_started_is_refused() -> None:
    with pytest.raises(CallClosed, match="PROCESSING_AI"):
        accept(processing(), 2)


def test_repeat_after_the_ai_step_started_is_still_a_duplicate() -> None:
    assert accept(processing(), 1).is_duplicate


@pytest.mark.parametrize("first", [[], [0]], ids=["without 0", "with 0"])
def test_a_stream_may_have_100_gaps_and_not_101(first: list[int]) -> None:
    call = with_all_gaps(*first)
    assert len(call.streams[""].gaps) == MAX_GAPS == 100
    with pytest.raises(SequenceWindow):
        accept(call, MAX_SEQUENCE)
    with pytest.raises(SequenceWindow):
        accept(call, 3)  # in the middle of a gap: one becomes two


def test_with_100_gaps_a_packet_at_the_edge_of_one_is_still_taken() -> None:
    call = with_all_gaps()
    assert [accept(call, sequence).gaps[0] for sequence in (2, 4, 3)] == [(3, 4), (3, 3), (6, 8)]


def test_sequence_0_that_never_came_is_none_of_the_100_gaps() -> None:
    call = call_with(*range(1, 2 * MAX_GAPS + 2, 2))
    assert len(call.streams[""].gaps) == MAX_GAPS
    assert len(accept(call, 0).gaps) == MAX_GAPS


def test_a_call_may_have_100_streams_and_not_101() -> None:
    call = with_all_streams()
    with pytest.raises(TooManyStreams, match="100 streams"):
        accept(call, 1, "one more")
    assert accept(call, 2, "7").total_received == MAX_STREAMS + 1 == 101


@pytest.mark.parametrize("make", [processing, with_all_gaps, with_all_streams])
def test_refused_packet_changes_nothing(make: Callable[[], Call]) -> None:
    call = make()
    before = call.row()
    with pytest.raises(CallError):
        accept(call, 1_000)
    assert call.row() == before


def test_complete_waits_for_packets_in_flight() -> None:
    change, completed = complete(call_with(1), reason="provider", metadata={"to": "+1"})
    assert completed == Completed(False, CallState.COMPLETED, {})
    assert path(change) == ["COMPLETED"]
    assert change.row is not None
    assert change.row.metadata == {"to": "+1"}
    assert (change.row.facts.wake_in, change.row.facts.end_reason) == (1.5, EndReason.PROVIDER)


def test_complete_with_the_last_sequence_and_nothing_missing_begins_the_ai_step_in_the_same_change() -> None:
    change, completed = complete(call_with(1, 2), last_sequence={"": 2})
    assert completed == Completed(False, CallState.PROCESSING_AI, {})
    assert path(change) == ["COMPLETED", "PROCESSING_AI"]
    assert change.events[-1].detail == {"phase": "started", "end_reason": "api"}
    assert change.row is not None
    assert change.row.facts.is_attempting
    assert (change.row.facts.attempt, change.row.facts.wake_in) == (1, TIMEOUT + ATTEMPT_MARGIN)


def test_complete_names_what_is_missing_at_the_tail_and_waits_for_it() -> None:
    change, completed = complete(call_with(1, 3), last_sequence={"": 5, "b": 1})
    assert completed == Completed(False, CallState.COMPLETED, {"": ((2, 2), (4, 5)), "b": ((1, 1),)})
    assert path(change) == ["COMPLETED"]


def test_complete_that_leaves_a_stream_unnamed_does_not_end_the_grace() -> None:
    call = call_with(1)
    accept(call, 1, "b")
    assert complete(call, last_sequence={"": 1})[1].state is CallState.COMPLETED


def test_second_complete_is_told_the_state_and_changes_nothing() -> None:
    call = call_with(1)
    complete(call, reason="provider")
    before = call.row()
    assert complete(call, reason="busy") == (Change(), Completed(True, CallState.COMPLETED, {}))
    assert call.row() == before


@pytest.mark.parametrize("reason", WITHOUT_AI)
def test_a_call_that_skips_the_ai_step_fails_in_one_change_with_attempt_0(reason: str) -> None:
    change, completed = complete(call_with(1), reason=reason)
    assert completed.state is CallState.FAILED
    assert path(change) == ["COMPLETED", "PROCESSING_AI", "FAILED"]
    assert {event.attempt for event in change.events} == {0}
    assert change.row is not None
    assert change.row.facts == Facts(CallState.FAILED, version=4, end_reason=EndReason(reason))


def test_a_call_without_packets_is_archived_without_a_result_at_the_end_of_the_grace() -> None:
    call = Call("a")
    complete(call)
    change = call.end_grace(attempt_timeout=TIMEOUT)
    assert path(change) == ["PROCESSING_AI", "ARCHIVED"]
    assert change.row is not None
    assert change.row.result is None
    assert change.row.facts == Facts(CallState.ARCHIVED, version=4, end_reason=EndReason.API)


def test_a_restart_of_the_actor_is_counted_in_the_row() -> None:
    row = call_with(1).count_crash().row
    assert row is not None
    assert row.facts.crashes == 1


def test_a_released_call_is_written_down_whole() -> None:
    call = call_with(1, 4)
    assert call.release() == Change(row=call.row()._replace(is_released=True))


def test_row_over_an_earlier_one_has_the_effect_of_writing_both() -> None:
    call = call_with(1)
    early = call.row()._replace(metadata={"a": 1, "b": 1}, result="early", last_error={"reason": "early"})
    accept(call, 2)
    late = call.row()
    assert late.over(None) is late
    assert late.over(early) == late._replace(
        metadata={"a": 1, "b": 1}, result="early", last_error={"reason": "early"}
    )
    both = late._replace(metadata={"b": 2}, result="late", last_error={"reason": "late"})
    assert both.over(early) == both._replace(metadata={"a": 1, "b": 2})
    assert early.over(late) == early
