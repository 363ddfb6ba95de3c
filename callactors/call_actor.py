"""The actor of one call: it decides in memory, the journal commits, and only then does it answer and act."""

import asyncio
import logging
import random
from asyncio import Task, TimerHandle
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Final, assert_never

from callactors.actors import Actor, Envelope
from callactors.actors.actor import Home
from callactors.call import Call
from callactors.errors import (
    CallErased,
    CallError,
    CallFull,
    Fenced,
    SequenceConflict,
    StorageRefused,
    StorageUnavailable,
    Unavailable,
    UnknownCall,
)
from callactors.facts import Accepted, Change, Event, EventKind, Facts, Row
from callactors.foreign import answer_foreign
from callactors.legs import Lifetimes
from callactors.messages import (
    Accept,
    AcceptMany,
    AttemptEnded,
    BeginStream,
    ByHand,
    CancelCall,
    Complete,
    Describe,
    DropStream,
    EndStream,
    FromVendor,
    Message,
    RetryCall,
    TellStatus,
    Wake,
)
from callactors.packets import Packet
from callactors.processors.attempt import prepare, run_attempt
from callactors.processors.contract import CallRecord, Processor
from callactors.processors.gate import Gate, Pass
from callactors.retry import Done, Outcome, Retry, RetryPolicy
from callactors.states import CallState
from callactors.store.claims import Claims
from callactors.store.contents import Contents, StoredPacket
from callactors.store.journal import Journal, Verdict, Writer
from callactors.store.rows import Claimed
from callactors.tickets import CallTicket, Outcomes, PartTicket

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3  # how often a message may meet another owner before it is refused
MAX_FAILURES: Final = 3  # how often an actor may fail within the registry's window before its call is ended
CHECKPOINT_PACKETS: Final = 1_000
_STEPS: Final = frozenset({EventKind.TRANSITION, EventKind.ATTEMPT})
CHECKPOINT_INTERVAL: Final = 60.0  # each row written is a version that long readers make all look at


@dataclass(frozen=True, slots=True, kw_only=True)
class CallServices:
    """What every call's actor works with.

    *max_packets* and *max_size* (characters of data) are what a call may have; *read_data* takes call_id,
    stream and sequence and returns that packet's data; *read_contents* and *read_page* are for the AI step;
    *spawn* runs an attempt and sees to its end.
    """

    claims: Claims
    journal: Journal
    processor: Processor
    gate: Gate
    policy: RetryPolicy
    lifetimes: Lifetimes
    max_packets: int
    max_size: int
    read_data: Callable[[str, str, int], Awaitable[str | None]]
    read_contents: Callable[[str], Awaitable[Contents]]
    read_page: Callable[[str, str, int], Awaitable[tuple[Sequence[StoredPacket], int | None]]]
    spawn: Callable[[Coroutine[Any, Any, None]], Task[None]]
    rng: Callable[[], float] = random.random


class CallActor(Actor[str, Message]):
    """One call's single writer.

    It has no memory until its first message, which makes it claim and load the call; it forgets everything
    when a change was not stored as decided, and loads again.
    """

    __slots__ = (
        "_attempt",
        "_checkpoint_at",
        "_heard_at",
        "_held",
        "_is_due",
        "_pass",
        "_services",
        "_started_at",
        "_timer",
        "_unwritten",
    )

    def __init__(self, key: str, home: Home[Message], services: CallServices) -> None:
        super().__init__(key, home)
        self._services = services
        self._held: tuple[Call, Writer] | None = None
        self._timer: TimerHandle | None = None
        self._is_due = False
        self._attempt: Task[None] | None = None
        self._pass: Pass | None = None
        self._unwritten = 0
        self._checkpoint_at = self._heard_at = self._started_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether an attempt runs or waits, or a vendor's connection is open: it would be lost otherwise."""
        return self._held is not None and bool(
            self._held[0].facts.is_attempting or self._held[0].legs.live or self._pass
        )

    async def receive(self, envelope: Envelope[Message]) -> None:
        held = self._held
        if held is None:
            claimed = await self._claim(envelope)
            if claimed is None:
                return
            held = self._open(claimed)
        self._decide(*held, envelope)

    def receive_now(self, envelope: Envelope[Message]) -> bool:
        if self._held is None:
            return False
        self._decide(*self._held, envelope)
        return True

    async def on_failure(self, error: Exception, failures: int) -> None:
        """Count the crash in the call's row, or end the call if it was one too many."""
        if self._held is not None:
            await self._held[1].drained()
        self._forget()
        claimed = await self._services.claims.claim(self.key, creates=False)
        if claimed is None or not claimed.is_mine:
            self.home.leave()
            return
        writer = self._new_writer(claimed)
        if failures > MAX_FAILURES:
            change = claimed.call.poison(
                f"its actor failed {failures} times, last with {type(error).__name__}"
            )
            if change.events:
                log.error("call %s: ended, because its actor failed %d times", self.key, failures)
        else:
            change = claimed.call.count_crash()
        self._submit(writer, change, Envelope(Wake()))
        await writer.drained()
        self.home.tell(Wake())  # for the next incarnation

    async def on_stop(self) -> None:
        """Give back a running attempt, count streams as dropped, write everything down, give up ownership."""
        if self._held is None:
            return
        call, writer = self._held
        self._forget()  # what is stored from now on is for the next owner to act upon
        if call.facts.is_attempting:
            self._submit(writer, call.give_back_attempt(), Envelope(Wake()))
        if call.legs.live:
            self._submit(writer, self._drop(call, call.legs.live), Envelope(Wake()))
        self._submit(writer, call.release(), Envelope(Wake()))
        await writer.drained()

    def on_settled(self, ticket: CallTicket, verdict: Verdict) -> None:
        """Take the journal's verdict on a change of this actor."""
        match verdict:
            case Verdict.STORED:
                self._on_stored(ticket)
                return
            case Verdict.CONFLICT:
                self._on_conflict(ticket)
                return
            case Verdict.FENCED:
                for envelope in ticket.envelopes():
                    self._try_again(envelope)
            case Verdict.REFUSED:
                self._on_refused(ticket)
            case Verdict.RETURNED:
                self.home.put_back(ticket.envelopes())
            case Verdict.ABANDONED:
                ticket.tell(StorageUnavailable())
            case _:
                assert_never(verdict)
        if self._holds(ticket.writer):
            self._forget()
            if verdict in (Verdict.REFUSED, Verdict.RETURNED):
                self.home.tell(Wake())  # what was due is still due

    def _on_conflict(self, ticket: CallTicket) -> None:
        packets = ticket.change.packets
        if len(packets) == 1:
            ticket.tell(SequenceConflict(self.key, packets[0].stream, packets[0].sequence))
        else:  # all of them are stored now, so that each will be compared
            self.home.put_back(ticket.envelopes())

    def _on_refused(self, ticket: CallTicket) -> None:
        if len(ticket.change.packets) > 1:  # only the guilty one is to be refused
            self.home.put_back(ticket.envelopes())
        else:
            ticket.tell(StorageRefused("see the server's log"))

    def _try_again(self, envelope: Envelope[Message]) -> None:
        envelope.tries += 1
        if envelope.reply is not None and envelope.tries < MAX_TRIES:
            self.home.put_back([envelope])
            return
        envelope.fail(Fenced())  # timers and attempts are the new owner's to repeat
        self.home.leave()  # the sweeper takes a call that has an actor here for one that is cared for

    def _holds(self, writer: Writer) -> bool:
        return self._held is not None and self._held[1] is writer

    async def _claim(self, envelope: Envelope[Message]) -> Claimed | None:
        """Claim the call, or deal with *envelope* without it and return None."""
        message = envelope.message
        try:
            creates = isinstance(message, Accept | AcceptMany | BeginStream | TellStatus)
            claimed = await self._services.claims.claim(self.key, creates=creates)
            if claimed is not None and claimed.is_mine:
                return claimed
            if claimed is None:
                self._answer_unknown(envelope)
            elif claimed.is_erased:
                envelope.fail(CallErased(self.key))
            else:
                await answer_foreign(envelope, claimed.call, self._services.read_data)
        except (Unavailable, CallError) as error:
            envelope.fail(error)
        self.home.leave()
        return None

    def _answer_unknown(self, envelope: Envelope[Message]) -> None:
        match envelope.message:
            case Describe():
                envelope.answer(None)
            case Accept() | AcceptMany() | BeginStream() | TellStatus():  # it was purged in this very moment
                self._try_again(envelope)
            case _:
                envelope.fail(UnknownCall(self.key))

    def _open(self, claimed: Claimed) -> tuple[Call, Writer]:
        claimed.call.call_id = self.key  # one copy of it in memory
        call, writer = self._held = claimed.call, self._new_writer(claimed)
        now = monotonic()
        self._unwritten, self._checkpoint_at = 0, now
        self._heard_at, self._started_at = now - claimed.idle, now - claimed.age
        if call.legs.is_lost and call.facts.wake_in is not None:
            lost_for = self._services.lifetimes.drop_timeout - call.facts.wake_in
            self._heard_at = max(self._heard_at, now - lost_for)
        if call.legs.live:  # their connections went with the process or actor that had them
            self._heard_at = now
            self._submit(writer, self._drop(call, call.legs.live), Envelope(Wake()))
        if call.facts.is_attempting:
            change = call.crash_attempt(self._services.policy, self._services.rng)
            self._submit(writer, change, Envelope(Wake()))
        else:
            self._arm(call.facts)
        return call, writer

    def _new_writer(self, claimed: Claimed) -> Writer:
        return self._services.journal.writer(claimed.call_no, self.key, claimed.epoch)

    def _decide(self, call: Call, writer: Writer, envelope: Envelope[Message]) -> None:
        try:
            self._dispatch(call, writer, envelope)
        except CallError as error:
            self._submit(writer, Change(), envelope, error)  # a refusal too may rest on what is not committed

    def _dispatch(self, call: Call, writer: Writer, envelope: Envelope[Message]) -> None:
        attempt_timeout = self._services.policy.attempt_timeout
        match envelope.message:
            case Accept(packet):
                self._check_room(call, packet)
                change, accepted = call.accept(packet)
                self._submit(writer, self._with_checkpoint(call, change), envelope, accepted)
            case AcceptMany(packets):
                self._accept_many(call, writer, envelope, packets)
            case Complete(request):
                grace = self._services.lifetimes.grace
                change, completed = call.complete(
                    request, grace=grace, attempt_timeout=attempt_timeout, admit=self._admit
                )
                self._submit(writer, change, envelope, completed)
            case BeginStream() | EndStream() | DropStream() | TellStatus():
                self._submit(writer, self._hear(call, envelope.message), envelope)
            case RetryCall() | CancelCall():
                change = self._obey(call, envelope.message)
                self._submit(writer, change, envelope, call.facts.generation)
            case Describe():
                self._submit(writer, Change(), envelope, call.row())
            case Wake():
                self._submit(writer, self._wake(call, attempt_timeout), envelope)
            case AttemptEnded(generation, attempt, outcome):
                facts = call.facts
                if facts.is_attempting and (facts.generation, facts.attempt) == (generation, attempt):
                    self._disarm()  # what falls due before this is committed is outdated
                    change = call.finish_attempt(outcome, self._services.policy, self._services.rng)
                    self._submit(writer, change, envelope)
            case _:
                assert_never(envelope.message)

    def _hear(self, call: Call, message: FromVendor) -> Change:
        """Decide about what a vendor tells beside packets."""
        lifetimes, age = self._services.lifetimes, monotonic() - self._started_at
        match message:
            case BeginStream(stream, metadata):
                return call.begin_stream(stream, metadata, lifetimes=lifetimes, age=age)
            case EndStream(stream, ends_call):
                return call.end_stream(stream, ends_call=ends_call, lifetimes=lifetimes, age=age)
            case DropStream(stream):
                self._heard_at = monotonic()
                return self._drop(call, [stream])
            case TellStatus(key, detail, ends):
                return call.tell_status(key, detail, ends, lifetimes=lifetimes, age=age)
            case _:
                assert_never(message)

    def _obey(self, call: Call, message: ByHand) -> Change:
        """Do what a person wants."""
        match message:
            case RetryCall():
                timeout = self._services.policy.attempt_timeout
                return call.retry(attempt_timeout=timeout, admit=self._admit)
            case CancelCall():
                change = call.cancel()
                self._disarm()
                self._leave_step()
                return change
            case _:
                assert_never(message)

    def _drop(self, call: Call, streams: Iterable[str]) -> Change:
        age = monotonic() - self._started_at
        return call.drop_streams(streams, lifetimes=self._services.lifetimes, age=age)

    def _wake(self, call: Call, attempt_timeout: float) -> Change:
        if self._is_due:
            self._is_due = False
            return self._do_what_is_due(call, attempt_timeout)
        now = monotonic()
        return call.look(self._services.lifetimes, idle=now - self._heard_at, age=now - self._started_at)

    def _accept_many(
        self, call: Call, writer: Writer, envelope: Envelope[Message], packets: Sequence[Packet]
    ) -> None:
        """Decide about each packet as if it had come alone; those that come as expected are one change."""
        outcomes = Outcomes(envelope, len(packets))
        answer: Accepted | CallError
        index = 0
        while index < len(packets):
            rest = packets[index:] if index else packets
            try:
                self._check_room(call, rest[0])
                change, answer = call.accept_run(rest) or call.accept(rest[0])
                change = self._with_checkpoint(call, change)
                decided = rest[: answer.packets]
            except CallError as error:
                change, answer, decided = Change(), error, rest[:1]
            writer.submit(PartTicket(self.on_settled, writer, change, answer, decided, outcomes, index))
            index += len(decided)

    def _check_room(self, call: Call, packet: Packet) -> None:
        packets, size = self._services.max_packets, self._services.max_size
        if (call.packets >= packets or call.size >= size) and not call.has(packet):
            raise CallFull(self.key, packets, size)

    def _do_what_is_due(self, call: Call, attempt_timeout: float) -> Change:
        if call.facts.state is CallState.COMPLETED:
            return call.end_grace(attempt_timeout=attempt_timeout, admit=self._admit)
        if call.facts.is_attempting:  # the processor does not heed its cancellation
            self._cancel_attempt()
            return call.finish_attempt(
                Retry("ran past its deadline"), self._services.policy, self._services.rng
            )
        return call.begin_attempt(attempt_timeout=attempt_timeout) if self._admit() else Change()

    def _admit(self) -> bool:
        """Whether an attempt may begin now; if not, it is due again when it may."""
        if self._pass is None:
            self._pass = self._services.gate.ask(self._on_timer)
        return self._pass.is_good

    def _with_checkpoint(self, call: Call, change: Change) -> Change:
        """Add the call's row to *change* now and then, so that a claim has few packets to count."""
        self._unwritten += len(change.packets)
        self._heard_at = now = monotonic()
        if change.row is None:
            if self._unwritten < CHECKPOINT_PACKETS and now < self._checkpoint_at + CHECKPOINT_INTERVAL:
                return change
            change = change._replace(row=call.row())
        self._unwritten, self._checkpoint_at = 0, now
        return change

    def _submit(
        self, writer: Writer, change: Change, envelope: Envelope[Message], answer: object = None
    ) -> None:
        writer.submit(CallTicket(self.on_settled, writer, change, envelope, answer))

    def _on_stored(self, ticket: CallTicket) -> None:
        change, answer = ticket.change, ticket.answer
        ticket.tell(answer)
        if isinstance(answer, Accepted) and (answer.is_late or answer.is_duplicate or answer.gap):
            _warn(self.key, answer)
        if not change.events:
            return
        for event in change.events:
            if event.kind is EventKind.TRANSITION:
                log.info("call %s: %s -> %s", self.key, event.from_state, event.to_state)
        if change.row is not None and self._holds(ticket.writer) and not self._is_overtaken(change.row.facts):
            self._act(change.row, change.events)

    def _is_overtaken(self, facts: Facts) -> bool:
        """Whether a later decision, which is not committed yet, has led on from the step in *facts*."""
        return self._held is not None and _step(self._held[0].facts) != _step(facts)

    def _act(self, row: Row, events: Sequence[Event]) -> None:
        """Do what follows from committed events: wait for the next step, or run the attempt."""
        facts, is_step = row.facts, events[-1].kind in _STEPS
        if is_step or facts.state is CallState.COMPLETED:
            self._arm(facts)
        if is_step and facts.is_attempting:
            record = CallRecord(
                call_id=self.key,
                generation=facts.generation,
                attempt=facts.attempt,
                deadline=self._services.policy.attempt_timeout,
                packet_count=row.packets,
                streams=tuple(sorted(row.streams)),
                end_reason=facts.end_reason,
                read_page=partial(self._services.read_page, self.key),
            )
            admitted, self._pass = self._pass, None
            self._attempt = self._services.spawn(self._run_attempt(record, admitted))
            if admitted is not None:  # for one that is cancelled before its first step
                self._attempt.add_done_callback(lambda _: admitted.give_back())

    async def _run_attempt(self, record: CallRecord, admitted: Pass | None) -> None:
        has_succeeded: bool | None = None  # nor does it say anything of the provider if the database fails
        outcome: Outcome
        try:
            prepared = await prepare(record, self._services.read_contents)
            if isinstance(prepared, Retry):
                outcome = prepared
            else:
                outcome = await run_attempt(self._services.processor, prepared)
                has_succeeded = not isinstance(outcome, Retry)
        finally:
            if admitted is not None:
                admitted.give_back(has_succeeded)
        if not isinstance(outcome, Done):
            log.warning("call %s: attempt %d failed", self.key, record.attempt)
        self.home.tell(AttemptEnded(record.generation, record.attempt, outcome))

    def _arm(self, facts: Facts) -> None:
        """Wake when *facts* say; a call in progress is woken by the sweeper."""
        self._disarm()
        wake_in = None if facts.state is CallState.IN_PROGRESS else facts.wake_in
        if wake_in is not None and wake_in > 0:
            self._timer = asyncio.get_running_loop().call_later(wake_in, self._on_timer)
        elif wake_in is not None:
            self._on_timer()

    def _disarm(self) -> None:
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self._is_due = True
        self.home.tell(Wake())

    def _cancel_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None

    def _forget(self) -> None:
        self._disarm()
        self._leave_step()
        self._held = None

    def _leave_step(self) -> None:
        """End the attempt that runs or waits, if there is one."""
        self._cancel_attempt()
        if self._pass is not None:
            self._pass.give_back()
            self._pass = None


def _step(facts: Facts) -> tuple[CallState, int, int, bool]:
    return facts.state, facts.generation, facts.attempt, facts.is_attempting


def _warn(call_id: str, accepted: Accepted) -> None:
    stream, sequence = accepted.stream, accepted.sequence
    if accepted.gap is not None:
        log.warning(
            "call %s: gap in stream %r, %d-%d missing before %d", call_id, stream, *accepted.gap, sequence
        )
    if accepted.is_late:
        log.warning("call %s: late packet %d in stream %r", call_id, sequence, stream)
    if accepted.is_duplicate:
        log.warning("call %s: duplicate packet %d in stream %r", call_id, sequence, stream)
