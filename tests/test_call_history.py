"""Any history of a call against a naive model: sets, counters, and the list of all it has published."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from callactors.call import ATTEMPT_MARGIN, Call
from callactors.errors import CallClosed, CallNotFailed
from callactors.facts import Change, Event, EventKind, Row
from callactors.packets import CompleteRequest, EndReason, Packet
from callactors.retry import Done, GiveUp, Outcome, Retry, RetryPolicy
from callactors.sequence import Range
from callactors.states import TRANSITIONS, CallState

GRACE: Final = 1.5
TIMEOUT: Final = 30.0
POLICY: Final = RetryPolicy(max_attempts=3)
LEGAL: Final = {(source, target) for _, source, target in TRANSITIONS}
WITHOUT_AI: Final = {"busy", "no_answer", "failed", "canceled", "poison"}

streams = st.sampled_from(["", "a", "b"])
sequences = st.integers(0, 9)
outcomes = st.one_of(
    st.builds(Done, st.integers()),
    st.builds(Retry, st.text(), st.none() | st.floats(0, 100)),
    st.builds(GiveUp, st.text()),
)


def missing(received: Iterable[int], last: int = 0) -> list[Range]:
    """Return the ranges missing from 1 up to *last* or the highest received."""
    known = set(received) | {0}
    ends = sorted(known | {max(*known, last) + 1})
    return [(before + 1, after - 1) for before, after in pairwise(ends) if after - before > 1]


class History(RuleBasedStateMachine):
    """Does what an actor may do with a call; `commits` holds what each change has written, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.call = Call("a")
        self.state, self.attempt, self.generation = CallState.IN_PROGRESS, 0, 1
        self.is_attempting = False
        self.packets: list[tuple[str, int]] = []
        self.late = self.duplicates = 0
        self.events: list[Event] = []
        self.rows: list[tuple[Row, str, int]] = []

    def commit(self, change: Change) -> None:
        """Keep what *change* writes, and what it looked like, with the number of packets before it."""
        self.events += change.events
        assert change.row or not change.events
        if change.row:
            assert change.row._replace(metadata=None, result=None, last_error=None) == self.call.row()
            self.rows.append((change.row, repr(change.row), len(self.packets)))

    def received(self, stream: str) -> list[int]:
        return [sequence for name, sequence in self.packets if name == stream]

    def end(self, state: CallState) -> None:
        self.state, self.is_attempting = state, False

    def start_processing(self) -> None:
        if self.packets:
            self.state, self.attempt, self.is_attempting = CallState.PROCESSING_AI, 1, True
        else:
            self.end(CallState.ARCHIVED)

    @rule(stream=streams, sequence=sequences)
    def packet(self, stream: str, sequence: int) -> None:
        packet = Packet(sequence=sequence, data="x", timestamp=1.0, stream=stream)
        received = self.received(stream)
        is_repeat = sequence in received
        if not is_repeat and self.state not in (CallState.IN_PROGRESS, CallState.COMPLETED):
            with pytest.raises(CallClosed):
                self.call.accept(packet)
            return
        change, accepted = self.call.accept(packet)
        is_late = not is_repeat and (self.state is CallState.COMPLETED or sequence < max(received, default=0))
        self.duplicates += is_repeat
        self.late += is_late
        self.packets += [] if is_repeat else [(stream, sequence)]
        self.commit(change)
        expected = max(received, default=0) + 1
        assert (change.packets, change.is_repeat) == ((packet,), is_repeat)
        assert (accepted.stream, accepted.sequence) == (stream, sequence)
        assert (accepted.is_duplicate, accepted.is_late) == (is_repeat, is_late)
        assert accepted.gap == ((expected, sequence - 1) if sequence > expected else None)
        assert accepted.total_received == len(self.packets)
        assert list(accepted.gaps) == missing(self.received(stream))

    @rule(last=st.dictionaries(streams, sequences), reason=st.sampled_from(EndReason))
    def complete(self, last: dict[str, int], reason: EndReason) -> None:
        was_completed = self.state is not CallState.IN_PROGRESS
        request = CompleteRequest(last_sequence=last, reason=reason)
        change, completed = self.call.complete(request, grace=GRACE, attempt_timeout=TIMEOUT)
        gaps = {name: missing(self.received(name), end) for name, end in last.items()}
        gaps = {name: ranges for name, ranges in gaps.items() if ranges}
        if was_completed:
            assert change == Change()
        elif reason in WITHOUT_AI:
            self.end(CallState.FAILED)
        elif last and not gaps and {name for name, _ in self.packets} <= set(last):
            self.start_processing()
        else:
            self.state = CallState.COMPLETED
        self.commit(change)
        assert (completed.was_completed, completed.state) == (was_completed, self.state)
        assert {name: list(ranges) for name, ranges in completed.missing.items()} == gaps

    @precondition(lambda self: self.state is CallState.COMPLETED)
    @rule()
    def end_grace(self) -> None:
        self.start_processing()
        self.commit(self.call.end_grace(attempt_timeout=TIMEOUT))

    @precondition(lambda self: self.state is CallState.PROCESSING_AI and not self.is_attempting)
    @rule()
    def begin_attempt(self) -> None:
        self.attempt, self.is_attempting = self.attempt + 1, True
        self.commit(self.call.begin_attempt(attempt_timeout=TIMEOUT))

    @precondition(lambda self: self.is_attempting)
    @rule(outcome=outcomes)
    def finish_attempt(self, outcome: Outcome) -> None:
        self.is_attempting = False
        if isinstance(outcome, Done):
            self.end(CallState.ARCHIVED)
        elif isinstance(outcome, GiveUp) or self.attempt == POLICY.max_attempts:
            self.end(CallState.FAILED)
        self.commit(self.call.finish_attempt(outcome, POLICY, lambda: 0.0))

    @precondition(lambda self: self.is_attempting)
    @rule()
    def crash_attempt(self) -> None:
        self.is_attempting = False
        if self.attempt == POLICY.max_attempts:
            self.end(CallState.FAILED)
        self.commit(self.call.finish_attempt(Retry("crash"), POLICY, lambda: 0.0))

    @precondition(lambda self: self.is_attempting)
    @rule()
    def give_back_attempt(self) -> None:
        self.attempt, self.is_attempting = self.attempt - 1, False
        self.commit(self.call.give_back_attempt())

    @rule()
    def retry(self) -> None:
        if self.state is not CallState.FAILED:
            with pytest.raises(CallNotFailed):
                self.call.retry(attempt_timeout=TIMEOUT)
            return
        self.state, self.attempt, self.is_attempting = CallState.PROCESSING_AI, 1, True
        self.generation += 1
        self.commit(self.call.retry(attempt_timeout=TIMEOUT))

    @rule()
    def poison(self) -> None:
        if not self.state.is_final:
            self.end(CallState.FAILED)
        self.commit(self.call.poison("bad data"))

    @rule()
    def count_crash(self) -> None:
        self.commit(self.call.count_crash())

    @rule()
    def reload(self) -> None:
        """Go on with what the store has; late and duplicates may lag."""
        self.call = self.restored(*(self.rows[-1][::2] if self.rows else (None, 0)))
        self.late, self.duplicates = self.call.late, self.call.duplicates

    def restored(self, row: Row | None, packets: int) -> Call:
        call = Call("a", row)
        for stream, sequence in self.packets[packets:]:
            call.restore(stream, sequence)
        return call

    @invariant()
    def facts_are_those_of_the_model(self) -> None:
        facts = self.call.facts
        assert (facts.state, facts.attempt) == (self.state, self.attempt)
        assert (facts.generation, facts.is_attempting) == (self.generation, self.is_attempting)
        assert (facts.wake_in is None) == (self.state is CallState.IN_PROGRESS or self.state.is_final)
        assert not self.is_attempting or facts.wake_in == TIMEOUT + ATTEMPT_MARGIN

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        call = self.call
        assert (call.packets, call.late, call.duplicates) == (len(self.packets), self.late, self.duplicates)
        assert {name: list(stream.gaps) for name, stream in call.streams.items()} == {
            name: missing(self.received(name)) for name, _ in self.packets
        }

    @invariant()
    def events_are_a_chain_without_holes_that_ends_in_the_present_state(self) -> None:
        state = CallState.IN_PROGRESS
        for version, event in enumerate(self.events, start=2):  # version 1 is the insert of the call
            pair = (event.from_state, event.to_state)
            assert (event.version, event.from_state) == (version, state)
            assert (
                pair in LEGAL
                if event.kind is EventKind.TRANSITION
                else pair == (CallState.PROCESSING_AI,) * 2
            )
            state = event.to_state
        assert (state, len(self.events) + 1) == (self.call.facts.state, self.call.facts.version)

    @invariant()
    def no_row_was_altered_and_each_restores_the_call(self) -> None:
        for row, look, packets in self.rows:
            assert repr(row) == look
            call = self.restored(row, packets)
            assert (call.streams, call.packets) == (self.call.streams, self.call.packets)


TestHistory = History.TestCase
TestHistory.settings = settings(deadline=None, stateful_step_count=40)
