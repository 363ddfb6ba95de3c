"""Call: the facts of one call and its decisions. Pure: no clock, no chance, no I/O.

A decision changes the call in memory and returns a `Change`: what has to be committed before anybody is told.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any, Final, TypeAlias

from callactors.errors import (
    BadTransition,
    CallClosed,
    CallEnded,
    CallNotFailed,
    SequenceWindow,
    TooManyStreams,
)
from callactors.facts import FRESH, Accepted, Change, Completed, Event, EventKind, Row
from callactors.legs import MAX_CALLBACKS, NO_LEGS, Lifetimes
from callactors.packets import CompleteRequest, EndReason, Packet, PacketKind
from callactors.retry import Done, GiveUp, Outcome, RetryPolicy
from callactors.sequence import MAX_GAPS, Range, StreamSequence
from callactors.states import CallState, Trigger, advance

MAX_STREAMS: Final = 100
ATTEMPT_MARGIN: Final = 5.0  # seconds that a running attempt's deadline leaves for storing its outcome

_NEW_STREAM: Final = StreamSequence()
WITHOUT_AI: Final = {
    EndReason.BUSY,
    EndReason.NO_ANSWER,
    EndReason.FAILED,
    EndReason.CANCELED,
    EndReason.POISON,
}


Admit: TypeAlias = Callable[[], bool]
"""Whether an attempt of the AI step may begin at once; asked only if one would."""


def admitted() -> bool:
    """Let every attempt begin at once."""
    return True


class Call:
    """One call as its actor knows it."""

    __slots__ = ("call_id", "duplicates", "facts", "late", "legs", "packets", "size", "streams")

    def __init__(self, call_id: str, row: Row | None = None) -> None:
        self.call_id = call_id
        self.facts = row.facts if row and row.facts != FRESH else FRESH
        self.streams = dict(row.streams) if row else {}
        self.packets = row.packets if row else 0
        self.late = row.late if row else 0
        self.duplicates = row.duplicates if row else 0
        self.size = row.size if row else 0
        self.legs = row.legs if row else NO_LEGS

    def restore(self, stream: str, sequence: int) -> None:
        """Count a packet that was committed after the row was written."""
        self.streams[stream] = self.streams.get(stream, _NEW_STREAM).add(sequence)
        self.packets += 1

    def row(self) -> Row:
        """Return the call's row as of now."""
        streams = dict(self.streams)
        return Row(self.facts, streams, self.packets, self.late, self.duplicates, self.size, self.legs)

    @property
    def has_content(self) -> bool:
        """Whether there is anything for the AI step."""
        return self.packets > self.legs.controls

    def accept(self, packet: Packet) -> tuple[Change, Accepted]:
        """Decide about *packet*.

        Raises:
            CallClosed: it is new, and the AI step has started.
            SequenceWindow: it would open one gap too many.
            TooManyStreams: it would begin one stream too many.
        """
        name, sequence = packet.stream, packet.sequence
        stream = self.streams.get(name, _NEW_STREAM)
        is_media = packet.kind is PacketKind.MEDIA
        if sequence == stream.next and sequence and is_media and self.facts.state is CallState.IN_PROGRESS:
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
        writes_row = stream is _NEW_STREAM and name != ""  # a claim looks for the stream "" in any case
        self.streams[name] = after
        self.packets += 1
        self.size += len(packet.data)
        self.late += is_late
        if not packet.kind.is_content:
            self.legs, writes_row = self.legs.count_control(), True
        accepted = Accepted(name, sequence, False, is_late, gap, self.packets, after.gaps)
        return Change((packet,), False, self.row() if writes_row else None), accepted

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
            if packet.sequence != expected or packet.stream != name or packet.kind is not PacketKind.MEDIA:
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
        self, request: CompleteRequest, *, grace: float, attempt_timeout: float, admit: Admit = admitted
    ) -> tuple[Change, Completed]:
        """Decide about a complete; *grace* and *attempt_timeout* in seconds."""
        missing = self._missing(request.last_sequence)
        if self.facts.state is not CallState.IN_PROGRESS:
            return Change(), Completed(True, self.facts.state, missing)
        reason = request.reason
        events = [self._step(Trigger.COMPLETE, {}, end_reason=reason, wake_in=grace)]
        if reason in WITHOUT_AI:
            events += self._fail_at_once()
        elif self.streams.keys() <= request.last_sequence.keys() and request.last_sequence and not missing:
            events += self._process(attempt_timeout, admit)
        change = Change(row=self.row()._replace(metadata=request.metadata or None), events=tuple(events))
        return change, Completed(False, self.facts.state, missing)

    def begin_stream(
        self, stream: str, metadata: Mapping[str, Any], server: str = "", *, lifetimes: Lifetimes, age: float
    ) -> Change:
        """Count *stream* as live: it begins, or goes on over another connection, now at *server*.

        *age* is the call's.

        Raises:
            CallClosed: the AI step has started.
            TooManyStreams: it would begin one stream too many.
        """
        if not self.facts.state.takes_packets:
            raise CallClosed(self.call_id, self.facts.state)
        if stream in self.legs.live:
            if self.legs.servers.get(stream, "") == server:
                return Change()
            self.legs = self.legs.begin(stream, server)
            return self._change([])
        if stream not in self.legs and len(self.legs.live) + len(self.legs.dropped) >= MAX_STREAMS:
            raise TooManyStreams(self.call_id, MAX_STREAMS)
        phase = "resumed" if stream in self.legs.dropped else "started"
        self.legs = self.legs.begin(stream, server)
        events = (self._tell_stream(phase, stream, lifetimes, age),)
        return Change(row=self.row()._replace(metadata=metadata or None), events=events)

    def end_stream(
        self, stream: str, server: str = "", *, ends_call: bool, lifetimes: Lifetimes, age: float
    ) -> Change:
        """Count *stream* as over, unless it is elsewhere than *server*; the last may end the call."""
        if stream not in self.legs or self.legs.is_elsewhere(stream, server):
            return Change()
        self.legs = self.legs.end(stream)
        events = [self._tell_stream("stopped", stream, lifetimes, age)]
        is_last = not (self.legs.live or self.legs.dropped)
        if is_last and ends_call and self.facts.state is CallState.IN_PROGRESS:
            events += self._complete(EndReason.STREAM_STOPPED, lifetimes)
        return self._change(events)

    def drop_streams(
        self, streams: Iterable[str], server: str = "", *, lifetimes: Lifetimes, age: float
    ) -> Change:
        """Count those of *streams* that are live, and not elsewhere than *server*, as dropped."""
        events = []
        for stream in sorted(self.legs.live.intersection(streams)):
            if self.legs.is_elsewhere(stream, server):
                continue
            self.legs = self.legs.drop(stream)
            events.append(self._tell_stream("dropped", stream, lifetimes, age))
        return self._change(events) if events else Change()

    def tell_status(
        self,
        key: str,
        detail: Mapping[str, Any],
        ends: EndReason | None,
        *,
        lifetimes: Lifetimes,
        age: float,
    ) -> Change:
        """Note what a provider's callback tells, once for each *key*; it may end the call, and never more."""
        callbacks = self.legs.callbacks
        is_end = ends is not None and self.facts.state is CallState.IN_PROGRESS
        if key in callbacks or (len(callbacks) >= MAX_CALLBACKS and not is_end):
            return Change()
        self.legs = self.legs.hear(key)
        events = [self._note(EventKind.STATUS, detail, self._next_wake(lifetimes, age))]
        if ends is not None and is_end:
            events += self._complete(ends, lifetimes)
            if ends in WITHOUT_AI and not self.has_content:
                events += self._fail_at_once()
        return self._change(events)

    def look(self, lifetimes: Lifetimes, *, idle: float, age: float) -> Change:
        """End a call in progress whose time is over, or say when to look again.

        *idle* are the seconds since its last packet or lost connection, *age* those since its start.
        """
        if self.facts.state is not CallState.IN_PROGRESS:
            return Change()
        wait = lifetimes.until_look(idle=idle, age=age)
        reason = EndReason.MAX_DURATION if age >= lifetimes.max_duration else EndReason.IDLE_TIMEOUT
        if self.legs.is_lost and lifetimes.drop_timeout - idle < wait:
            wait, reason = max(lifetimes.drop_timeout - idle, 0.0), EndReason.STREAM_DROPPED
        if wait > 0:
            self.facts = replace(self.facts, wake_in=wait)
            return Change(row=self.row()._replace(wakes_anew=True))
        return self._change(self._complete(reason, lifetimes))

    def end_grace(self, *, attempt_timeout: float, admit: Admit = admitted) -> Change:
        """End the wait for packets in flight: begin the AI step, or archive a call without packets."""
        return self._change(self._process(attempt_timeout, admit))

    def begin_attempt(self, *, attempt_timeout: float) -> Change:
        """Begin the next attempt of the AI step."""
        return self._change([self._begin_attempt(attempt_timeout)])

    def finish_attempt(
        self, outcome: Outcome, policy: RetryPolicy, rng: Callable[[], float], *, left: float = inf
    ) -> Change:
        """Decide what follows from the *outcome* of the running attempt; *left* are the step's seconds.

        Raises:
            BadTransition: no attempt is running.
        """
        attempt = self.facts.attempt
        if not self.facts.is_attempting:
            raise BadTransition(self.facts.state, "finish an attempt that is not running")
        if isinstance(outcome, Done):
            events = [self._attempt("succeeded"), self._step(Trigger.ARCHIVE, {})]
            return Change(row=self.row()._replace(result=outcome.result), events=tuple(events))
        if isinstance(outcome, GiveUp) or attempt >= policy.max_attempts:
            return self._give_up(outcome.reason, [self._attempt("failed", reason=outcome.reason)])
        wait = policy.delay(attempt, outcome.after, rng)
        if wait >= left:
            reason = f"{outcome.reason}; no time is left for another attempt"
            return self._give_up(reason, [self._attempt("failed", reason=outcome.reason)])
        error = {"attempt": attempt, "reason": outcome.reason}
        event = self._attempt("failed", wake_in=wait, reason=outcome.reason, retry_in=wait)
        return Change(row=self.row()._replace(last_error=error), events=(event,))

    def run_out(self) -> Change:
        """End the AI step, for which no time is left, while no attempt runs."""
        return self._give_up("no time is left for an attempt", [])

    def give_back_attempt(self) -> Change:
        """Undo the running attempt, which an orderly stop has cancelled: it does not count."""
        event = self._attempt("given back", wake_in=0.0)
        self.facts = replace(self.facts, attempt=self.facts.attempt - 1)
        return self._change([event])

    def retry(self, *, attempt_timeout: float, admit: Admit = admitted) -> Change:
        """Begin the next generation of a failed call, with attempts from 1.

        Raises:
            CallNotFailed: the call has not failed.
        """
        if self.facts.state is not CallState.FAILED:
            raise CallNotFailed(self.call_id, self.facts.state)
        state = advance(self.facts.state, Trigger.RETRY)
        generation = self.facts.generation + 1
        self.facts = replace(self.facts, generation=generation)
        return self._change(self._begin_step(state, {"generation": generation}, attempt_timeout, admit))

    def cancel(self) -> Change:
        """End a call that is live as canceled, whatever it is at.

        Raises:
            CallEnded: it has ended.
        """
        if self.facts.state.is_final:
            raise CallEnded(self.call_id, self.facts.state)
        return self._change(self._end(EndReason.CANCELED))

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

    def _process(self, attempt_timeout: float, admit: Admit) -> list[Event]:
        if not self.has_content:
            return [self._step(Trigger.PROCESS, {}), self._step(Trigger.ARCHIVE, {})]
        state = advance(self.facts.state, Trigger.PROCESS)
        return self._begin_step(state, {}, attempt_timeout, admit)

    def _begin_step(
        self, state: CallState, detail: Mapping[str, Any], attempt_timeout: float, admit: Admit
    ) -> list[Event]:
        """Go to the AI step, and begin its first attempt unless that has to wait."""
        is_admitted = admit()
        self.facts = replace(self.facts, attempt=int(is_admitted))
        event = self._move(state, detail, wake_in=0.0)
        return [event, self._begin_attempt(attempt_timeout, first=True)] if is_admitted else [event]

    def _complete(self, reason: EndReason, lifetimes: Lifetimes) -> list[Event]:
        """End a call in progress; what is on its way in live streams has longer."""
        wait = max(lifetimes.grace, lifetimes.drop_timeout) if self.legs.live else lifetimes.grace
        return [self._step(Trigger.COMPLETE, {}, end_reason=reason, wake_in=wait)]

    def _next_wake(self, lifetimes: Lifetimes, age: float) -> float | None:
        """Return the seconds to the call's next own step, if nothing else happens."""
        if self.facts.state is CallState.IN_PROGRESS:
            wait = lifetimes.until_look(age=age)
            return min(lifetimes.drop_timeout, wait) if self.legs.is_lost else wait
        if self.facts.state is CallState.COMPLETED and not self.legs.live:
            return lifetimes.grace
        return self.facts.wake_in

    def _tell_stream(self, phase: str, stream: str, lifetimes: Lifetimes, age: float) -> Event:
        detail = {"stream": stream, "phase": phase}
        return self._note(EventKind.STREAM, detail, self._next_wake(lifetimes, age))

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

    def _give_up(self, reason: str, events: Sequence[Event]) -> Change:
        error = {"attempt": self.facts.attempt, "reason": reason}
        failed = self._step(Trigger.FAIL, {"last_error": error})
        return Change(row=self.row()._replace(last_error=error), events=(*events, failed))

    def _begin_attempt(self, attempt_timeout: float, *, first: bool = False) -> Event:
        attempt = self.facts.attempt if first else self.facts.attempt + 1
        self.facts = replace(self.facts, attempt=attempt)
        return self._attempt("started", is_attempting=True, wake_in=attempt_timeout + ATTEMPT_MARGIN)

    def _attempt(
        self, phase: str, *, is_attempting: bool = False, wake_in: float | None = None, **detail: Any
    ) -> Event:
        facts = self.facts
        self.facts = replace(facts, is_attempting=is_attempting)
        return self._note(EventKind.ATTEMPT, {"phase": phase, **detail}, wake_in)

    def _note(self, kind: EventKind, detail: Mapping[str, Any], wake_in: float | None) -> Event:
        """Return an event that leaves the call in its state."""
        facts = self.facts
        self.facts = replace(facts, version=facts.version + 1, wake_in=wake_in)
        told = {**detail, **self._end_reason()}
        return Event(self.facts.version, kind, facts.state, facts.state, facts.attempt, told)

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
