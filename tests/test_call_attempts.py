"""The decisions of a call about the attempts of its AI step, one scene each."""

from typing import Final

import pytest

from callactors.call import Call
from callactors.errors import CallEnded, CallNotFailed
from callactors.facts import Change, EventKind, Facts, Row
from callactors.packets import CompleteRequest, EndReason, Packet
from callactors.retry import Done, GiveUp, Outcome, Retry, RetryPolicy
from callactors.states import CallState

TIMEOUT: Final = 30.0


def in_progress() -> Call:
    call = Call("a")
    call.accept(Packet(sequence=1, data="x", timestamp=1.0))
    return call


CRASH: Final = Retry("the server stopped")
ENDED: Final = {"end_reason": "api"}  # what every event behind a complete tells


def completed() -> Call:
    call = in_progress()
    call.complete(CompleteRequest(), grace=1.5, attempt_timeout=TIMEOUT)
    return call


def processing() -> Call:
    """Return a call whose first attempt runs."""
    call = completed()
    call.end_grace(attempt_timeout=TIMEOUT)
    return call


def finish(call: Call, outcome: Outcome) -> Change:
    return call.finish_attempt(outcome, RetryPolicy(), lambda: 0.0)


def path(change: Change) -> list[str]:
    """Return the states that the transitions of *change* lead to."""
    return [event.to_state for event in change.events if event.kind is EventKind.TRANSITION]


def test_done_archives_the_call_with_its_result_in_one_change() -> None:
    change = finish(processing(), Done({"text": "hello"}))
    assert [event.detail for event in change.events] == [{"phase": "succeeded", **ENDED}, ENDED]
    assert path(change) == ["ARCHIVED"]
    assert change.row is not None
    assert change.row.result == {"text": "hello"}


def test_failed_attempts_wait_1_2_and_4_seconds_and_the_fourth_fails_the_call() -> None:
    call, waits = processing(), list[float | None]()
    for _ in range(3):
        assert path(finish(call, Retry("down"))) == []
        waits.append(call.facts.wake_in)
        call.begin_attempt(attempt_timeout=TIMEOUT)
    change = finish(call, Retry("down"))
    assert waits == [1.0, 2.0, 4.0]
    assert path(change) == ["FAILED"]
    assert change.row is not None
    assert change.row.last_error == {"attempt": 4, "reason": "down"}
    assert change.row.facts.wake_in is None


def test_retry_after_is_honoured_and_counts() -> None:
    call = processing()
    change = finish(call, Retry("busy", after=7.0))
    assert change.events[0].detail == {"phase": "failed", "reason": "busy", "retry_in": 7.0, **ENDED}
    assert (call.facts.wake_in, call.facts.attempt) == (7.0, 1)


def test_a_wait_that_leaves_no_time_for_another_attempt_is_not_begun() -> None:
    policy = RetryPolicy(initial=2.0)
    in_time = processing().finish_attempt(Retry("down"), policy, lambda: 0.0, left=2.1)
    assert path(in_time) == []
    too_late = processing().finish_attempt(Retry("down"), policy, lambda: 0.0, left=2.0)
    assert path(too_late) == ["FAILED"]
    assert too_late.row is not None
    assert too_late.row.last_error == {
        "attempt": 1,
        "reason": "down; no time is left for another attempt",
    }


def test_a_call_whose_time_runs_out_while_it_waits_fails() -> None:
    call = processing()
    finish(call, Retry("down"))
    change = call.run_out()
    assert [event.kind for event in change.events] == [EventKind.TRANSITION]
    assert path(change) == ["FAILED"]
    assert change.row is not None
    assert change.row.last_error == {"attempt": 1, "reason": "no time is left for an attempt"}


def test_give_up_fails_the_call_at_once() -> None:
    change = finish(processing(), GiveUp("no speech"))
    assert path(change) == ["FAILED"]
    assert change.row is not None
    assert change.row.last_error == {"attempt": 1, "reason": "no speech"}


def test_crashed_attempt_counts() -> None:
    call = processing()
    for _ in range(3):
        finish(call, CRASH)
        call.begin_attempt(attempt_timeout=TIMEOUT)
    assert path(finish(call, CRASH)) == ["FAILED"]


def test_attempt_that_was_given_back_does_not_count() -> None:
    call = processing()
    change = call.give_back_attempt()
    assert [(event.attempt, event.detail["phase"]) for event in change.events] == [(1, "given back")]
    assert (call.facts.wake_in, call.facts.is_attempting) == (0.0, False)
    assert call.begin_attempt(attempt_timeout=TIMEOUT).events[0].attempt == 1


def test_retry_of_a_failed_call_starts_the_next_generation_with_attempt_1() -> None:
    call = Call("a", Row(Facts(CallState.FAILED, version=9, attempt=4), {}, 0, 0, 0))
    change = call.retry(attempt_timeout=TIMEOUT)
    assert path(change) == ["PROCESSING_AI"]
    assert change.events[0].detail == {"generation": 2}
    assert [event.attempt for event in change.events] == [1, 1]
    assert (call.facts.generation, call.facts.is_attempting) == (2, True)


@pytest.mark.parametrize("state", [state for state in CallState if state is not CallState.FAILED])
def test_only_a_failed_call_can_be_retried(state: CallState) -> None:
    call = Call("a", Row(Facts(state, version=9), {}, 0, 0, 0))
    before = call.row()
    with pytest.raises(CallNotFailed):
        call.retry(attempt_timeout=TIMEOUT)
    assert call.row() == before


def test_an_attempt_that_may_not_begin_yet_waits_and_counts_from_1_then() -> None:
    call = completed()
    change = call.end_grace(attempt_timeout=TIMEOUT, admit=lambda: False)
    assert path(change) == ["PROCESSING_AI"]
    assert (call.facts.attempt, call.facts.is_attempting, call.facts.wake_in) == (0, False, 0.0)
    assert call.begin_attempt(attempt_timeout=TIMEOUT).events[0].attempt == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_cancel_ends_a_live_call_in_any_state_in_one_change(place: int) -> None:
    call = (in_progress(), completed(), processing())[place]
    assert path(call.cancel()) == ["COMPLETED", "PROCESSING_AI", "FAILED"][place:]
    assert call.facts.end_reason is EndReason.CANCELED
    with pytest.raises(CallEnded):
        call.cancel()


def test_poison_ends_a_call_in_any_state_in_one_change() -> None:
    changes = [call.poison("bad data") for call in (in_progress(), completed(), processing())]
    whole = ["COMPLETED", "PROCESSING_AI", "FAILED"]
    assert [path(change) for change in changes] == [whole, whole[1:], whole[2:]]
    rows = [change.row for change in changes if change.row is not None]
    assert [row.facts.end_reason for row in rows] == [EndReason.POISON] * 3
    assert [row.last_error for row in rows] == [{"reason": "bad data"}] * 3


def test_poison_does_not_move_a_call_that_has_ended() -> None:
    call = processing()
    finish(call, Done())
    before = call.facts
    assert call.poison("bad data").events == ()
    assert call.facts == before
