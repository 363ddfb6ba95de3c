"""Decisions about vendors' streams and callbacks, and about calls whose time is over: pure."""

from typing import Any, Final

import pytest

from callactors.call import MAX_STREAMS, Call
from callactors.errors import CallClosed, TooManyStreams
from callactors.facts import Change, EventKind
from callactors.legs import MAX_CALLBACKS, Lifetimes
from callactors.packets import CompleteRequest, EndReason, Packet, PacketKind
from callactors.retry import Done, RetryPolicy
from callactors.states import CallState

LIFE: Final = Lifetimes(grace=1.0, drop_timeout=30.0, idle_timeout=100.0, max_duration=1_000.0)
TIMES: Final[dict[str, Any]] = {"lifetimes": LIFE, "age": 0.0}
TIMEOUT: Final = 20.0


def packet(sequence: int, kind: PacketKind = PacketKind.MEDIA) -> Packet:
    return Packet(sequence=sequence, data="x", timestamp=1.0, stream="s", kind=kind)


def told(change: Change) -> list[str]:
    """What the events of *change* say, in short."""
    return [
        f"{event.detail['phase']} {event.detail['stream']}"
        if event.kind is EventKind.STREAM
        else event.to_state
        for event in change.events
    ]


def begun(*streams: str, content: int = 1) -> Call:
    call = Call("c")
    for sequence in range(1, content + 1):
        call.accept(packet(sequence))
    for stream in streams:
        call.begin_stream(stream, {}, **TIMES)
    return call


def end(call: Call, stream: str, *, ends_call: bool = True) -> Change:
    return call.end_stream(stream, ends_call=ends_call, **TIMES)


def drop(call: Call, *streams: str) -> Change:
    return call.drop_streams(streams, **TIMES)


def status(call: Call, key: str, ends: EndReason | None = None) -> Change:
    return call.tell_status(key, {"status": key}, ends, **TIMES)


def test_the_last_stream_that_stops_ends_the_call() -> None:
    call = begun("a", "b")
    assert told(end(call, "a")) == ["stopped a"]
    change = end(call, "b")
    assert told(change) == ["stopped b", "COMPLETED"]
    assert (call.facts.end_reason, call.facts.wake_in) == (EndReason.STREAM_STOPPED, LIFE.grace)
    assert told(call.end_grace(attempt_timeout=TIMEOUT))[0] == "PROCESSING_AI"


def test_a_stream_may_stop_and_leave_the_call_going_on() -> None:
    call = begun("a")
    assert told(end(call, "a", ends_call=False)) == ["stopped a"]
    assert (call.facts.state, call.facts.wake_in) == (CallState.IN_PROGRESS, LIFE.idle_timeout)


def test_a_stop_of_a_stream_that_nobody_knows_changes_nothing() -> None:
    assert end(begun("a"), "b") == Change()
    assert drop(begun("a"), "b") == Change()


def test_a_lost_connection_is_waited_for() -> None:
    call = begun("a")
    change = drop(call, "a")
    assert told(change) == ["dropped a"]
    assert change.row is not None
    assert (change.row.facts.wake_in, change.row.legs.live) == (LIFE.drop_timeout, frozenset())
    early = call.look(LIFE, idle=29.0, age=29.0)
    assert early.row is not None
    assert (early.events, early.row.wakes_anew, early.row.facts.wake_in) == ((), True, 1.0)
    assert told(call.look(LIFE, idle=30.0, age=30.0)) == ["COMPLETED"]
    assert call.facts.end_reason is EndReason.STREAM_DROPPED


def test_a_stream_that_is_back_goes_on() -> None:
    call = begun("a")
    drop(call, "a")
    assert told(call.begin_stream("a", {}, **TIMES)) == ["resumed a"]
    assert call.facts.wake_in == LIFE.idle_timeout
    assert call.look(LIFE, idle=40.0, age=40.0).events == ()
    assert told(end(call, "a")) == ["stopped a", "COMPLETED"]


def test_a_lost_stream_may_stop_over_another_connection() -> None:
    call = begun("a")
    drop(call, "a")
    assert told(end(call, "a")) == ["stopped a", "COMPLETED"]


def test_while_one_stream_is_lost_the_last_that_stops_does_not_end_the_call() -> None:
    call = begun("a", "b")
    drop(call, "a")
    assert call.facts.wake_in == LIFE.idle_timeout
    assert told(end(call, "b")) == ["stopped b"]
    assert call.facts.wake_in == LIFE.drop_timeout
    assert told(call.look(LIFE, idle=30.0, age=30.0)) == ["COMPLETED"]


def test_a_stream_begins_once() -> None:
    call = begun("a")
    assert call.begin_stream("a", {}, **TIMES) == Change()
    for number in range(MAX_STREAMS - 1):
        call.begin_stream(str(number), {}, **TIMES)
    with pytest.raises(TooManyStreams):
        call.begin_stream("one more", {}, **TIMES)


def test_what_a_stream_tells_of_the_call_is_kept() -> None:
    change = Call("c").begin_stream("a", {"from": "1"}, **TIMES)
    assert change.row is not None
    assert change.row.metadata == {"from": "1"}


def test_no_stream_begins_behind_the_ai_steps_start() -> None:
    call = begun("a")
    end(call, "a")
    call.begin_stream("late", {}, **TIMES)
    end(call, "late")
    call.end_grace(attempt_timeout=TIMEOUT)
    with pytest.raises(CallClosed):
        call.begin_stream("b", {}, **TIMES)


def test_a_stop_while_the_ai_step_runs_leaves_it_alone() -> None:
    call = begun("a")
    call.complete(CompleteRequest(), grace=1.0, attempt_timeout=TIMEOUT)
    call.end_grace(attempt_timeout=TIMEOUT)
    before = call.facts
    assert told(end(call, "a")) == ["stopped a"]
    assert (call.facts.is_attempting, call.facts.wake_in) == (True, before.wake_in)
    call.finish_attempt(Done(), RetryPolicy(), lambda: 0.0)
    assert call.facts.state is CallState.ARCHIVED


@pytest.mark.parametrize("reason", ["busy", "no_answer", "failed", "canceled"])
def test_a_call_that_never_came_about_fails_at_once(reason: str) -> None:
    call = Call("c")
    status(call, "ringing")
    assert told(status(call, reason, EndReason(reason))) == [
        "IN_PROGRESS",
        "COMPLETED",
        "PROCESSING_AI",
        "FAILED",
    ]
    assert call.facts.end_reason == reason


def test_a_call_that_failed_behind_a_conversation_is_processed() -> None:
    call = begun()
    assert told(status(call, "failed", EndReason.FAILED)) == ["IN_PROGRESS", "COMPLETED"]
    assert told(call.end_grace(attempt_timeout=TIMEOUT))[0] == "PROCESSING_AI"


def test_an_end_that_a_provider_tells_waits_for_live_streams() -> None:
    call = begun("a")
    status(call, "completed", EndReason.PROVIDER)
    assert (call.facts.state, call.facts.wake_in) == (CallState.COMPLETED, LIFE.drop_timeout)
    assert told(end(call, "a")) == ["stopped a"]
    assert call.facts.wake_in == LIFE.grace


def test_a_state_never_goes_back() -> None:
    call = begun()
    status(call, "3:completed", EndReason.PROVIDER)
    call.end_grace(attempt_timeout=TIMEOUT)
    running = call.facts
    for key in ("1:ringing", "2:in-progress", "3:completed"):
        status(call, key, EndReason.PROVIDER if "completed" in key else None)
    assert call.facts.state is CallState.PROCESSING_AI
    assert (call.facts.is_attempting, call.facts.wake_in) == (True, running.wake_in)
    assert call.legs.callbacks == ("3:completed", "1:ringing", "2:in-progress")


def test_a_repeated_callback_is_noted_once_and_their_number_is_bounded() -> None:
    call = Call("c")
    assert len(status(call, "a").events) == 1
    assert status(call, "a") == Change()
    for number in range(MAX_CALLBACKS):
        status(call, str(number))
    assert len(call.legs.callbacks) == MAX_CALLBACKS
    assert told(status(call, "done", EndReason.BUSY))[-1] == "FAILED"


@pytest.mark.parametrize(
    ("idle", "age", "reason"),
    [(100.0, 500.0, EndReason.IDLE_TIMEOUT), (5.0, 1_000.0, EndReason.MAX_DURATION)],
)
def test_a_call_whose_time_is_over_ends(idle: float, age: float, reason: EndReason) -> None:
    call = begun("a")
    assert told(call.look(LIFE, idle=idle, age=age)) == ["COMPLETED"]
    assert call.facts.end_reason is reason
    assert call.look(LIFE, idle=idle, age=age) == Change()


@pytest.mark.parametrize(("idle", "age", "wait"), [(40.0, 50.0, 60.0), (10.0, 980.0, 20.0)])
def test_a_call_that_goes_on_is_looked_at_again(idle: float, age: float, wait: float) -> None:
    change = begun().look(LIFE, idle=idle, age=age)
    assert change.row is not None
    assert (change.row.wakes_anew, change.row.facts.wake_in) == (True, wait)


def test_a_call_of_starts_stops_and_marks_has_nothing_to_process() -> None:
    call = Call("c")
    call.begin_stream("s", {}, **TIMES)
    for sequence, kind in enumerate((PacketKind.START, PacketKind.MARK, PacketKind.STOP), 1):
        change, accepted = call.accept(packet(sequence, kind))
        assert change.row is not None
        assert (change.row.legs.controls, accepted.gap) == (sequence, None)
    end(call, "s")
    assert told(call.end_grace(attempt_timeout=TIMEOUT)) == ["PROCESSING_AI", "ARCHIVED"]


def test_a_digit_is_something_to_process() -> None:
    call = Call("c")
    call.accept(packet(1, PacketKind.START))
    call.accept(packet(2, PacketKind.DTMF))
    assert call.has_content


def test_a_run_of_media_ends_before_a_mark() -> None:
    call = begun()
    packets = [packet(2), packet(3), packet(4, PacketKind.MARK), packet(5)]
    found = call.accept_run(packets)
    assert found is not None
    assert found[1].packets == 2
    assert call.accept_run(packets[2:]) is None
    assert not call.accept(packets[2])[1].is_duplicate
    assert call.legs.controls == 1


def test_streams_are_lost_together() -> None:
    call = begun("a", "b")
    assert told(drop(call, "b", "a", "x")) == ["dropped a", "dropped b"]
    assert call.facts.wake_in == LIFE.drop_timeout
