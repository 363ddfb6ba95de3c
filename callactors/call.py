"""Call: the facts of one call and its decisions. Pure: no clock, no chance, no I/O.

A decision changes the call in memory and returns a `Change`: what has to be committed before anybody is told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from callactors.errors import BadTransition, CallClosed, SequenceWindow, TooManyStreams
from callactors.packets import CompleteRequest, EndReason, Packet
from callactors.retry import Done, GiveUp, Outcome, Retry, RetryPolicy
from callactors.sequence import MAX_GAPS, Range, StreamSequence
from callactors.states import CallState, Trigger, advance

MAX_STREAMS: Final = 100
ATTEMPT_MARGIN: Final = 5.0  # seconds that a running attempt's deadline leaves for storing its outcome

_NEW_STREAM: Final = StreamSequence()
_WITHOUT_AI: Final = {
    EndReason.BUSY,
    EndReason.NO_ANSWER,
    EndReason.FAILED,
    EndReason.CANCELED,
    EndReason.POISON,
}


class EventKind(StrEnum):
    TRANSITION = "transition"
    ATTEMPT = "attempt"
    ERASED = "erased"


class Event(NamedTuple):
    """One line of the event log; `version` counts the events of a call from 1 without holes."""

    version: int
    kind: EventKind
    from_state: CallState
    to_state: CallState
    attempt: int
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What an event may change. `wake_in` is the seconds from the last event to the call's next own step."""

    state: CallState = CallState.IN_PROGRESS
    version: int = 1
    generation: int = 1
    attempt: int = 0
    is_attempting: bool = False
    crashes: int = 0
    wake_in: float | None = None
    end_reason: EndReason | None = None


_FRESH: Final = Facts()  # shared by all calls in progress


class Row(NamedTuple):
    """What a commit writes to the call's row: absolute values as of one change.

    *size* are the characters of all packets' data, but for those committed between the last row and a crash.
    """

    facts: Facts
    streams: Mapping[str, StreamSequence]
    packets: int
    late: int
    duplicates: int
    size: int = 0
    metadata: Mapping[str, Any] | None = None
    result: Any = None
    last_error: Mapping[str, Any] | None = None
    is_released: bool = False

    def over(self, earlier: "Row | None") -> "Row":
        """Return the row that has the effect of writing *earlier* and then this one."""
        if earlier is None:
            return self
        return self._replace(
            metadata={**(earlier.metadata or {}), **(self.metadata or {})} or None,
            result=earlier.result if self.result is None else self.result,
            last_error=earlier.last_error if self.last_error is None else self.last_error,
        )


class Change(NamedTuple):
    """What one decision asks the journal to commit. An empty one only waits for those before it.

    Several packets are of one stream, and their sequences follow each other.
    """

    packets: Sequence[Packet] = ()
    is_repeat: bool = False
    row: Row | None = None
    events: tuple[Event, ...] = ()


class Accepted(NamedTuple):
    """The decision about a packet: the `gap` just before it, and all `gaps` of its stream after it.

    It may stand for several `packets` that came as expected, one after the other, of which it tells the last.
    """

    stream: str
    sequence: int
    is_duplicate: bool
    is_late: bool
    gap: Range | None
    total_received: int
    gaps: Sequence[Range]
    packets: int = 1


class Completed(NamedTuple):
    """The decision about a complete, and what each stream misses whose last sequence the sender told."""

    was_completed: bool
    state: CallState
    missing: Mapping[str, Sequence[Range]]


class Call:
    """One call as its actor knows it."""

    __slots__ = ("call_id", "duplicates", "facts", "late", "packets", "size", "streams")

    def __init__(self, call_id: str, row: Row | None = None) -> None:
        self.call_id = call_id
        self.facts = row.facts if row and row.facts != _FRESH else _FRESH
        self.streams = dict(row.streams) if row else {}
        self.packets = row.packets if row else 0
        self.late = row.late if row else 0
        self.duplicates = row.duplicates if row else 0
        self.size = row.size if row else 0

    def restore(self, stream: str, sequence: int) -> None:
        """Count a packet that was committed after the row was written."""
        self.streams[stream] = self.streams.get(stream, _NEW_STREAM).add(sequence)
        self.packets += 1

    def row(self) -> Row:
        """Return the call's row as of now."""
        return Row(self.facts, dict(self.streams), self.packets, self.late, self.duplicates, self.size)

    def accept(self, packet: Packet) -> tuple[Change, Accepted]:
        """Decide about *packet*.

        Raises:
            CallClosed: it is new, and the AI step has started.
            SequenceWindow: it would open one gap too many.
            TooManyStreams: it would begin one stream too many.
        """
        name, sequence = packet.stream, packet.sequence
        stream = self.streams.get(name, _NEW_STREAM)
        if sequence == stream.next and sequence and self.facts.state is CallState.IN_PROGRESS:
            # The one that is expected: what is below decides the same, at twice the cost.
            self.streams[name] = after = StreamSequence(sequence + 1, stream.missing)
            self.packets += 1
            self.size += len(packet.data)
            return Change((packet,)), Accepted(name, sequence, False, False, None, self.packets, after.gaps)
        if stream.has(sequence):
            self.duplicates += 1
            accepted = Accepted(name, sequence, True, False, None, self.packets, stream.gaps)
            return Change((packet,), is_repeat=True), accepted
        after = self._extend(stream, packet)
        is_late = sequence < stream.next or self.facts.state is not CallState.IN_PROGRESS
        expected = stream.next or 1
        gap = (expected, sequence - 1) if sequence > expected else None
        writes_stream = stream is _NEW_STREAM and name != ""  # a claim looks for the stream "" in any case
        self.streams[name] = after
        self.packets += 1
        self.size += len(packet.data)
        self.late += is_late
        accepted = Accepted(name, sequence, False, is_late, gap, self.packets, after.gaps)
        return Change((packet,), False, self.row() if writes_stream else None), accepted

    def has(self, packet: Packet) -> bool:
        """Whether *packet*'s sequence was accepted before."""
        return self.streams.get(packet.stream, _NEW_STREAM).has(packet.sequence)

    def accept_run(self, packets: Sequence[Packet]) -> tuple[Change, Accepted] | None:
        """Decide at once about the first *packets*, if at least two come as expected, one after the other.

        None says nothing about them: `accept` decides.
        """
        name = packets[0].stream
        stream = self.streams.get(name, _NEW_STREAM)
        expected = stream.next
        if not expected or self.facts.state is not CallState.IN_PROGRESS:
            return None
        for packet in packets:
            if packet.sequence != expected or packet.stream != name:
                break
            expected += 1
        count = expected - stream.next
        if count == 1 or not count:
            return None
        self.streams[name] = after = StreamSequence(expected, stream.missing)
        self.packets += count
        run = packets[:count]
        self.size += sum([len(packet.data) for packet in run])
        return Change(run), Accepted(name, expected - 1, False, False, None, self.packets, after.gaps, count)

    def complete(
        self, request: CompleteRequest, *, grace: float, attempt_timeout: float
    ) -> tuple[Change, Completed]:
        """Decide about a complete; *grace* and *attempt_timeout* in seconds."""
        missing = self._missing(request.last_sequence)
        if self.facts.state is not CallState.IN_PROGRESS:
            return Change(), Completed(True, self.facts.state, missing)
        reason = request.reason
        events = [self._step(Trigger.COMPLETE, {}, end_reason=reason, wake_in=grace)]
        if reason in _WITHOUT_AI:
            events += self._fail_at_once()
        elif self.streams.keys() <= request.last_sequence.keys() and request.last_sequence and not missing:
            events += self._process(attempt_timeout)
        change = Change(row=self.row()._replace(metadata=request.metadata or None), events=tuple(events))
        return change, Completed(False, self.facts.state, missing)

    def end_grace(self, *, attempt_timeout: float) -> Change:
        """End the wait for packets in flight: begin the AI step, or archive a call without packets."""
        return self._change(self._process(attempt_timeout))

    def begin_attempt(self, *, attempt_timeout: float) -> Change:
        """Begin the next attempt of the AI step."""
        return self._change([self._begin_attempt(attempt_timeout)])

    def finish_attempt(self, outcome: Outcome, policy: RetryPolicy, rng: Callable[[], float]) -> Change:
        """Decide what follows from the *outcome* of the running attempt.

        Raises:
            BadTransition: no attempt is running.
        """
        attempt = self.facts.attempt
        if not self.facts.is_attempting:
            raise BadTransition(self.facts.state, "finish an attempt that is not running")
        if isinstance(outcome, Done):
            events = [self._attempt("succeeded"), self._step(Trigger.ARCHIVE, {})]
            return Change(row=self.row()._replace(result=outcome.result), events=tuple(events))
        error = {"attempt": attempt, "reason": outcome.reason}
        if isinstance(outcome, GiveUp) or attempt >= policy.max_attempts:
            events = [
                self._attempt("failed", reason=outcome.reason),
                self._step(Trigger.FAIL, {"last_error": error}),
            ]
        else:
            wait = policy.delay(attempt, outcome.after, rng)
            events = [self._attempt("failed", wake_in=wait, reason=outcome.reason, retry_in=wait)]
        return Change(row=self.row()._replace(last_error=error), events=tuple(events))

    def crash_attempt(self, policy: RetryPolicy, rng: Callable[[], float]) -> Change:
        """Count the running attempt as failed, because the process or actor that ran it is gone."""
        return self.finish_attempt(Retry("the server stopped while the attempt ran"), policy, rng)

    def give_back_attempt(self) -> Change:
        """Undo the running attempt, which an orderly stop has cancelled: it does not count."""
        event = self._attempt("given back", wake_in=0.0)
        self.facts = replace(self.facts, attempt=self.facts.attempt - 1)
        return self._change([event])

    def retry(self, *, attempt_timeout: float) -> Change:
        """Begin the next generation of a failed call, with attempts from 1.

        Raises:
            BadTransition: the call has not failed.
        """
        state = advance(self.facts.state, Trigger.RETRY)
        self.facts = replace(self.facts, generation=self.facts.generation + 1, attempt=1)
        event = self._move(state, {"generation": self.facts.generation})
        return self._change([event, self._begin_attempt(attempt_timeout, first=True)])

    def poison(self, reason: str) -> Change:
        """End a call that makes its actor fail again and again; a call that has ended stays as it is."""
        if self.facts.state.is_final:
            return Change()
        events = self._end(EndReason.POISON)
        return Change(row=self.row()._replace(last_error={"reason": reason}), events=tuple(events))

    def erase(self) -> list[Event]:
        """End a call that is live as canceled, and return what is told: at last that it was erased."""
        events = [] if self.facts.state.is_final else self._end(EndReason.CANCELED)
        self.facts = facts = replace(self.facts, version=self.facts.version + 1)
        return [*events, Event(facts.version, EventKind.ERASED, facts.state, facts.state, facts.attempt, {})]

    def count_crash(self) -> Change:
        """Count a restart of the call's actor."""
        self.facts = replace(self.facts, crashes=self.facts.crashes + 1)
        return Change(row=self.row())

    def release(self) -> Change:
        """Write everything down and give up ownership."""
        return Change(row=self.row()._replace(is_released=True))

    def _extend(self, stream: StreamSequence, packet: Packet) -> StreamSequence:
        if not self.facts.state.takes_packets:
            raise CallClosed(self.call_id, self.facts.state)
        if stream is _NEW_STREAM and len(self.streams) >= MAX_STREAMS:
            raise TooManyStreams(self.call_id, MAX_STREAMS)
        after = stream.add(packet.sequence)
        if len(after.missing) > MAX_GAPS and len(after.gaps) > MAX_GAPS:
            raise SequenceWindow(self.call_id, packet.stream, packet.sequence, MAX_GAPS)
        return after

    def _missing(self, last_sequence: Mapping[str, int]) -> dict[str, Sequence[Range]]:
        streams = {name: self.streams.get(name, _NEW_STREAM) for name in last_sequence}
        found = {name: stream.gaps_up_to(last_sequence[name]) for name, stream in streams.items()}
        return {name: gaps for name, gaps in found.items() if gaps}

    def _process(self, attempt_timeout: float) -> list[Event]:
        if self.packets == 0:
            return [self._step(Trigger.PROCESS, {}), self._step(Trigger.ARCHIVE, {})]
        state = advance(self.facts.state, Trigger.PROCESS)
        self.facts = replace(self.facts, attempt=1)
        return [self._move(state, {}), self._begin_attempt(attempt_timeout, first=True)]

    def _end(self, reason: EndReason) -> list[Event]:
        """End a live call in FAILED, whatever it was at."""
        events: list[Event] = []
        if self.facts.state is CallState.IN_PROGRESS:
            events.append(self._step(Trigger.COMPLETE, {}, end_reason=reason))
        self.facts = replace(self.facts, end_reason=reason)
        return [*events, *self._fail_at_once()]

    def _fail_at_once(self) -> list[Event]:
        events = [self._step(Trigger.PROCESS, {})] if self.facts.state is CallState.COMPLETED else []
        return [*events, self._step(Trigger.FAIL, {})]

    def _begin_attempt(self, attempt_timeout: float, *, first: bool = False) -> Event:
        attempt = self.facts.attempt if first else self.facts.attempt + 1
        self.facts = replace(self.facts, attempt=attempt)
        return self._attempt("started", is_attempting=True, wake_in=attempt_timeout + ATTEMPT_MARGIN)

    def _attempt(
        self, phase: str, *, is_attempting: bool = False, wake_in: float | None = None, **detail: Any
    ) -> Event:
        facts = self.facts
        self.facts = replace(facts, version=facts.version + 1, is_attempting=is_attempting, wake_in=wake_in)
        told = {"phase": phase, **detail, **self._end_reason()}
        return Event(self.facts.version, EventKind.ATTEMPT, facts.state, facts.state, facts.attempt, told)

    def _step(self, trigger: Trigger, detail: Mapping[str, Any], **facts: Any) -> Event:
        return self._move(advance(self.facts.state, trigger), detail, **facts)

    def _move(
        self,
        state: CallState,
        detail: Mapping[str, Any],
        wake_in: float | None = None,
        end_reason: EndReason | None = None,
    ) -> Event:
        before = self.facts
        self.facts = replace(
            before,
            state=state,
            version=before.version + 1,
            is_attempting=False,
            wake_in=wake_in,
            end_reason=end_reason or before.end_reason,
        )
        told = {**detail, **self._end_reason()}
        return Event(self.facts.version, EventKind.TRANSITION, before.state, state, self.facts.attempt, told)

    def _end_reason(self) -> dict[str, Any]:
        """Every event tells why the call has ended, so that supervisors can ask for such calls."""
        return {"end_reason": self.facts.end_reason} if self.facts.end_reason else {}

    def _change(self, events: Sequence[Event]) -> Change:
        return Change(row=self.row(), events=tuple(events))
