"""The actor of one call: it decides in memory, the journal commits, and only then does it answer and act."""

import asyncio
import logging
from asyncio import TimerHandle
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from time import monotonic
from typing import Any, Final, assert_never

from callactors import tracing
from callactors.actors import Actor, Envelope
from callactors.actors.actor import Home
from callactors.ai_step import AiStep, StepServices
from callactors.call import Call
from callactors.counts import CallCounts
from callactors.errors import (
    CallErased,
    CallError,
    CallFull,
    Unavailable,
    UnknownCall,
)
from callactors.facts import BEGIN, Accepted, Change, Event, EventKind, Facts, Row
from callactors.foreign import answer_foreign
from callactors.legs import Lifetimes
from callactors.logs import CallLog
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
    OwnMessage,
    RetryCall,
    TellStatus,
    Wake,
)
from callactors.packets import Packet
from callactors.retry import Outcome, Retry
from callactors.routing import Router
from callactors.states import CallState
from callactors.store.claims import Claims
from callactors.store.journal import Journal
from callactors.store.rows import Claimed
from callactors.store.writer import Verdict, Writer
from callactors.tickets import MAX_TRIES, CallTicket, Outcomes, PartTicket, take_back, try_again

log = logging.getLogger(__name__)

MAX_FAILURES: Final = 3  # how often an actor may fail within the registry's window before its call is ended
CHECKPOINT_PACKETS: Final = 1_000
_STEPS: Final = frozenset({EventKind.TRANSITION, EventKind.ATTEMPT})
CHECKPOINT_INTERVAL: Final = 60.0  # each row written is a version that long readers make all look at


@dataclass(frozen=True, slots=True, kw_only=True)
class CallServices:
    """What every call's actor works with.

    *max_packets* and *max_size* (characters of data) are what a call may have; *read_data* takes call_id,
    stream and sequence and returns that packet's data; *counts* are those of all calls, *server* is the name
    of this one's boot, and *router* is told which calls are here, where several servers are one cluster.
    """

    claims: Claims
    journal: Journal
    step: StepServices
    lifetimes: Lifetimes
    max_packets: int
    max_size: int
    read_data: Callable[[str, str, int], Awaitable[str | None]]
    counts: CallCounts
    server: str = ""
    router: Router | None = None

    @property
    def max_tries(self) -> int:
        """How often a message is decided that meets another owner: with a router it goes there at once."""
        return MAX_TRIES if self.router is None else 1


class CallActor(Actor[str, Message]):
    """One call's single writer.

    It has no memory until its first message, which makes it claim and load the call; it forgets everything
    when a change was not stored as decided, and loads again.

    An application overrides `on_packet`, `on_event` and `receive_other`, and `on_start` for what they need.
    """

    __slots__ = (
        "_checkpoint_at",
        "_heard_at",
        "_held",
        "_is_due",
        "_origin",
        "_services",
        "_started_at",
        "_step",
        "_timer",
        "_unwritten",
    )

    def __init__(self, key: str, home: Home[Message], services: CallServices) -> None:
        super().__init__(key, home)
        self._services = services
        self._held: tuple[Call, Writer] | None = None
        self._timer: TimerHandle | None = None
        self._is_due = False
        self._origin: object = None  # the context of the last request that is traced
        self._step: AiStep | None = None
        self._unwritten = 0
        self._checkpoint_at = self._heard_at = self._started_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether an attempt runs or waits, or a vendor's connection is open here: it would be lost."""
        if self._held is None:
            return False
        call, step, server = self._held[0], self._step, self._services.server
        is_streaming = not all(call.legs.is_elsewhere(stream, server) for stream in call.legs.live)
        return call.facts.is_attempting or is_streaming or (step is not None and step.is_waiting)

    def on_packet(self, packet: Packet, accepted: Accepted) -> None:
        """Hear of a packet that is stored; what this raises is logged and changes nothing."""

    def on_event(self, event: Event) -> None:
        """Hear of what this actor has committed to the call's log; what this raises is logged too."""

    def receive_other(self, message: OwnMessage[Any]) -> object:
        """Return the reply to a message of one's own; the asker is told when all before it is committed.

        What this raises is raised at the asker.
        """
        raise NotImplementedError(f"{type(self).__name__} does not know {type(message).__name__}")

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
        claimed = await self._services.claims.claim(self.key, creates=False, takes=False)
        if claimed is None or not claimed.is_mine:
            self.home.leave()
            return
        writer = self._new_writer(claimed)
        if failures > MAX_FAILURES:
            change = claimed.call.poison(
                f"its actor failed {failures} times, last with {type(error).__name__}"
            )
            if change.events:
                CallLog(log, self.key).error("ended, because its actor failed %d times", failures)
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
        if call.legs.live:  # those whose connections are elsewhere go on
            self._submit(writer, self._drop(call, call.legs.live, self._services.server), Envelope(Wake()))
        self._submit(writer, call.release(), Envelope(Wake()))
        await writer.drained()

    def on_settled(self, ticket: CallTicket, verdict: Verdict) -> None:
        """Take the journal's verdict on a change of this actor."""
        if verdict is Verdict.STORED:
            self._on_stored(ticket)
            return
        take_back(ticket, verdict, self.home, max_tries=self._services.max_tries)
        if verdict is not Verdict.CONFLICT and self._holds(ticket.writer):
            self._forget()
            if verdict in (Verdict.REFUSED, Verdict.RETURNED):
                self.home.tell(Wake())  # what was due is still due

    def _holds(self, writer: Writer) -> bool:
        return self._held is not None and self._held[1] is writer

    async def _claim(self, envelope: Envelope[Message]) -> Claimed | None:
        """Claim the call, or deal with *envelope* without it and return None."""
        message = envelope.message
        try:
            creates = isinstance(message, Accept | AcceptMany | BeginStream | TellStatus)
            takes = envelope.reply is not None  # what nobody asked for is done once, by who has the call
            claimed = await self._services.claims.claim(self.key, creates=creates, takes=takes)
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
                try_again(envelope, self.home, max_tries=self._services.max_tries)
            case _:
                envelope.fail(UnknownCall(self.key))

    def _open(self, claimed: Claimed) -> tuple[Call, Writer]:
        claimed.call.call_id = self.key  # one copy of it in memory
        call, writer = self._held = claimed.call, self._new_writer(claimed)
        if (router := self._services.router) is not None:
            router.hold(self.key)
        if claimed.epoch == 1:  # this very claim has made the call
            self._call_hook(self.on_event, BEGIN)
        now = monotonic()
        self._unwritten, self._checkpoint_at = 0, now
        self._heard_at, self._started_at = now - claimed.idle, now - claimed.age
        if call.legs.is_lost and call.facts.wake_in is not None:
            lost_for = self._services.lifetimes.drop_timeout - call.facts.wake_in
            self._heard_at = max(self._heard_at, now - lost_for)
        if lost := call.legs.live - call.legs.servers.keys():  # the sweeper knows when other servers are dead
            self._heard_at = now
            self._submit(writer, self._drop(call, lost), Envelope(Wake()))
        if call.facts.state is CallState.PROCESSING_AI:
            self._step = self._make_step(age=claimed.step_age or 0.0)
        if call.facts.is_attempting:
            self._submit(
                writer,
                self._finish(call, Retry("the server stopped while the attempt ran")),
                Envelope(Wake()),
            )
        else:
            self._arm(call.facts)
        return call, writer

    def _new_writer(self, claimed: Claimed) -> Writer:
        return self._services.journal.writer(claimed.call_no, self.key, claimed.epoch)

    def _decide(self, call: Call, writer: Writer, envelope: Envelope[Message]) -> None:
        if envelope.context is not None:
            self._origin = envelope.context
        try:
            self._dispatch(call, writer, envelope)
        except CallError as error:
            self._submit(writer, Change(), envelope, error)  # a refusal too may rest on what is not committed

    def _dispatch(self, call: Call, writer: Writer, envelope: Envelope[Message]) -> None:
        match envelope.message:
            case Accept(packet):
                self._check_room(call, packet)
                change, accepted = call.accept(packet)
                self._submit(writer, self._with_checkpoint(call, change), envelope, accepted)
            case AcceptMany(packets):
                self._accept_many(call, writer, envelope, packets)
            case Complete(request):
                grace = self._services.lifetimes.grace
                timeout = self._services.step.policy.attempt_timeout
                change, completed = call.complete(
                    request, grace=grace, attempt_timeout=timeout, admit=self._admit
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
                self._submit(writer, self._wake(call), envelope)
            case AttemptEnded():
                self._submit(writer, self._end_attempt(call, envelope.message), envelope)
            case OwnMessage():
                self._submit(writer, Change(), envelope, self._answer_other(envelope.message))
            case _:
                assert_never(envelope.message)

    def _answer_other(self, message: OwnMessage[Any]) -> object:
        try:
            return self.receive_other(message)
        except Exception as error:  # noqa: BLE001  # the asker's to deal with; the call itself is whole
            return error

    def _hear(self, call: Call, message: FromVendor) -> Change:
        """Decide about what a vendor tells beside packets."""
        lifetimes, age = self._services.lifetimes, monotonic() - self._started_at
        match message:
            case BeginStream(stream, metadata, server):
                return call.begin_stream(stream, metadata, server, lifetimes=lifetimes, age=age)
            case EndStream(stream, ends_call, server):
                return call.end_stream(stream, server, ends_call=ends_call, lifetimes=lifetimes, age=age)
            case DropStream(stream, server):
                change = self._drop(call, [stream], server)
                if change.events:
                    self._heard_at = monotonic()
                return change
            case TellStatus(key, detail, ends):
                return call.tell_status(key, detail, ends, lifetimes=lifetimes, age=age)
            case _:
                assert_never(message)

    def _obey(self, call: Call, message: ByHand) -> Change:
        """Do what a person wants."""
        match message:
            case RetryCall():
                timeout = self._services.step.policy.attempt_timeout
                return call.retry(attempt_timeout=timeout, admit=self._admit)
            case CancelCall():
                change = call.cancel()
                self._disarm()
                self._leave_step()
                return change
            case _:
                assert_never(message)

    def _drop(self, call: Call, streams: Iterable[str], server: str = "") -> Change:
        age = monotonic() - self._started_at
        return call.drop_streams(streams, server, lifetimes=self._services.lifetimes, age=age)

    def _wake(self, call: Call) -> Change:
        if self._is_due:
            self._is_due = False
            return self._do_what_is_due(call)
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

    def _do_what_is_due(self, call: Call) -> Change:
        if call.facts.state is CallState.COMPLETED:
            timeout = self._services.step.policy.attempt_timeout
            return call.end_grace(attempt_timeout=timeout, admit=self._admit)
        step = self._step
        if step is None or call.facts.state is not CallState.PROCESSING_AI:
            return Change()
        if call.facts.is_attempting:  # the processor does not heed its cancellation
            step.stop_attempt()
            return self._finish(call, Retry("ran past its deadline"))
        if step.left <= 0:
            self._leave_step()
            return call.run_out()
        if step.admit():
            return call.begin_attempt(attempt_timeout=step.attempt_timeout)
        self._wake_in(step.left)
        return Change()

    def _end_attempt(self, call: Call, ended: AttemptEnded) -> Change:
        facts = call.facts
        if not facts.is_attempting or (facts.generation, facts.attempt) != (ended.generation, ended.attempt):
            return Change()
        self._disarm()  # what falls due before this is committed is outdated
        return self._finish(call, ended.outcome)

    def _finish(self, call: Call, outcome: Outcome) -> Change:
        """Decide what follows from the *outcome* of the running attempt."""
        step, services = self._step, self._services.step
        left = inf if step is None else step.left
        change = call.finish_attempt(outcome, services.policy, services.rng, left=left)
        if call.facts.state.is_final:
            self._leave_step()
        return change

    def _admit(self) -> bool:
        """Whether the first attempt of a new AI step may begin now; if not, it is due when it may."""
        self._step = self._make_step()
        return self._step.admit()

    def _make_step(self, *, age: float = 0.0) -> AiStep:
        services = self._services.step
        return AiStep(self.key, services, on_admitted=self._on_timer, on_end=self.home.tell, age=age)

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
        if isinstance(answer, Accepted):
            counts = self._services.counts
            counts.acks.add(monotonic() - ticket.asked_at, answer.packets)
            if answer.is_late or answer.is_duplicate or answer.gap:
                counts.count_odd(answer)
                _warn(self.key, answer)
            self._tell_packets(change.packets, answer)
        if not change.events:
            return
        for event in change.events:
            if event.kind is EventKind.TRANSITION:
                CallLog(log, self.key).info("%s -> %s", event.from_state, event.to_state)
                tracing.followed(self._origin, f"{event.from_state} -> {event.to_state}", self.key)
            self._call_hook(self.on_event, event)
        if change.row is not None and self._holds(ticket.writer) and not self._is_overtaken(change.row.facts):
            self._act(change.row, change.events)

    def _is_overtaken(self, facts: Facts) -> bool:
        """Whether a later decision, which is not committed yet, has led on from the step in *facts*."""
        return self._held is not None and _step(self._held[0].facts) != _step(facts)

    def _tell_packets(self, packets: Sequence[Packet], last: Accepted) -> None:
        """Call `on_packet` for each of *packets*, of which *last* tells the last one."""
        if type(self).on_packet is CallActor.on_packet:  # nearly always: spare the work
            return
        for behind, packet in zip(range(len(packets) - 1, -1, -1), packets, strict=True):
            total = last.total_received - behind
            accepted = last._replace(sequence=packet.sequence, total_received=total, packets=1)
            self._call_hook(self.on_packet, packet, accepted)

    def _call_hook(self, hook: Callable[..., None], *told: object) -> None:
        try:
            hook(*told)
        except Exception:  # noqa: BLE001  # it is told, and the call itself is whole
            CallLog(log, self.key).exception("a hook of the application's failed")

    def _act(self, row: Row, events: Sequence[Event]) -> None:
        """Do what follows from committed events: wait for the next step, or run the attempt."""
        facts, is_step = row.facts, events[-1].kind in _STEPS
        if is_step or facts.state is CallState.COMPLETED:
            self._arm(facts)
        if is_step and facts.is_attempting and self._step is not None:
            self._step.begin(row, self._origin)

    def _arm(self, facts: Facts) -> None:
        """Wake when *facts* say; a call in progress is woken by the sweeper."""
        self._disarm()
        wake_in = None if facts.state is CallState.IN_PROGRESS else facts.wake_in
        if wake_in is not None and wake_in > 0:
            self._wake_in(wake_in)
        elif wake_in is not None:
            self._on_timer()

    def _wake_in(self, seconds: float) -> None:
        if isfinite(seconds):
            self._timer = asyncio.get_running_loop().call_later(seconds, self._on_timer)

    def _disarm(self) -> None:
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._disarm()
        self._is_due = True
        self.home.tell(Wake())

    def _forget(self) -> None:
        self._disarm()
        self._leave_step()
        if self._held is not None:
            self._held = None
            if (router := self._services.router) is not None:
                router.let_go(self.key)

    def _leave_step(self) -> None:
        """End the attempt that runs or waits, if there is one."""
        if self._step is not None:
            self._step.leave()
            self._step = None


def _step(facts: Facts) -> tuple[CallState, int, int, bool]:
    return facts.state, facts.generation, facts.attempt, facts.is_attempting


def _warn(call_id: str, accepted: Accepted) -> None:
    stream, sequence, told = accepted.stream, accepted.sequence, CallLog(log, call_id)
    if accepted.gap is not None:
        told.warning("gap in stream %r, %d-%d missing before %d", stream, *accepted.gap, sequence)
    if accepted.is_late:
        told.warning("late packet %d in stream %r", sequence, stream)
    if accepted.is_duplicate:
        told.warning("duplicate packet %d in stream %r", sequence, stream)
