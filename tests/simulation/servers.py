"""The simulated servers: each a CallSystem as it is, on the database in memory."""

import asyncio
from asyncio import Future
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Final

from callactors.actors import Envelope
from callactors.actors.registry import RegistryLimits
from callactors.call import Call
from callactors.call_actor import CallActor
from callactors.errors import CallError, Unavailable
from callactors.messages import Accept, AcceptMany, Message
from callactors.options import SystemOptions
from callactors.packets import Packet
from callactors.processors.contract import Processor
from callactors.processors.gate import GateLimits
from callactors.retry import RetryPolicy
from callactors.store.journal import JournalLimits
from callactors.store.writer import Writer
from callactors.system import CallSystem
from tests.simulation.loop import PROCESS, Process, VirtualLoop
from tests.simulation.plan import FATAL, Conditions, Operation

POLICY: Final = RetryPolicy(max_attempts=3, initial=0.1, attempt_timeout=1.0)
_PAUSE: Final = 1.0
_LAST_ANSWERS: Final = 0.01  # seconds between the end of a server's work and that of its process


class Lost(Exception):
    """The connection to the server broke, or there was none."""


class HungUp(Exception):
    """The sender did not wait for the answer."""


class Fatal(RuntimeError):
    """What a packet does to its actor."""


class Fragile(CallActor):
    """An actor that cannot bear some packets."""

    __slots__ = ()

    def _dispatch(self, call: Call, writer: Writer, envelope: Envelope[Message]) -> None:
        match envelope.message:
            case Accept(packet) if packet.data == FATAL:
                raise Fatal
            case AcceptMany(packets) if any(packet.data == FATAL for packet in packets):
                raise Fatal
        super()._dispatch(call, writer, envelope)


class Request:
    """Something that is asked of a server for an *operation*; *packets* are those that it is about."""

    def __init__(
        self, operation: Operation, packets: Sequence[Packet], ask: "Callable[[CallSystem], Future[Any]]"
    ) -> None:
        self.operation = operation
        self.packets = packets
        self.ask = ask
        self.sent_at = 0.0
        self.server: Server | None = None
        self.reply: Future[Any] | None = None
        self.answered: Future[object] = asyncio.get_running_loop().create_future()

    def hang_up(self) -> None:
        """Wait no longer; the server finds out."""
        if self.server is not None and not self.answered.done():
            self.server.lose(self)


class Server:
    """A machine with a name, on which one process after the other is started.

    *judge* is called with each request and its answer, *violate* with what must never be.
    """

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        processor: Processor,
        conditions: Conditions,
        *,
        judge: Callable[[Request, object], None],
        violate: Callable[[str], None],
    ) -> None:
        self.name = name
        self.is_open = False
        self.disturbed = 0
        """How often it was killed, stopped or frozen."""
        self.process = Process(name)
        self.process.die()
        self._loop = loop
        self._processor = processor
        self._options = _options(name, conditions)
        self._judge = judge
        self._violate = violate
        self._requests: dict[Request, None] = {}  # in order

    def boot(self) -> None:
        """Start a process, unless there is one."""
        if not self.process.is_dead:
            return
        self.process = Process(self.name)
        self.process.on_death = self._on_death
        self._context = Context()
        self._context.run(PROCESS.set, self.process)
        self.system = self._context.run(
            CallSystem, "simulated", self._processor, self._options, actor=Fragile
        )
        self._spawn(self._start())

    def crash(self, steps: int) -> None:
        """Die so many steps later."""
        self.process.steps_left = steps

    def freeze(self, seconds: float) -> None:
        """Stand still."""
        process = self.process
        if not process.is_dead and process.held_back is None:
            self.disturbed += 1
            process.held_back = []
            self._loop.call_later(seconds, self._loop.thaw, process)

    def stop(self) -> None:
        """Stop in order, as at a SIGTERM."""
        if self.is_open:
            self.is_open = False
            self.disturbed += 1
            self._spawn(self._stop())

    def send(self, requests: Sequence[Request]) -> None:
        """Ask the server, one request right behind the other."""
        for request in requests:
            request.server = self
            request.sent_at = self._loop.time()
            self._requests[request] = None
        if self.is_open:
            self._loop.call_soon(self._take, requests, context=self._context)
        else:
            for request in requests:
                self._settle(request, Lost())

    def lose(self, request: Request) -> None:
        """Let the one who asked be gone."""
        self._settle(request, HungUp())
        if request.reply is not None:
            self._loop.call_soon(request.reply.cancel, context=self._context)

    def _spawn(self, work: Any) -> None:
        task = self._context.run(self._loop.create_task, work)
        task.add_done_callback(lambda task: task.result())  # what it raises is for the loop to tell

    async def _start(self) -> None:
        await self.system.start()
        self.is_open = True

    async def _stop(self) -> None:
        began, process = self._loop.time(), self.process
        disturbed = self.disturbed
        await self.system.stop()
        if disturbed == self.disturbed:
            self._check_stopped(self._loop.time() - began)
        self._loop.call_later(_LAST_ANSWERS, process.die, context=Context())

    def _check_stopped(self, seconds: float) -> None:
        """Nothing may be left, and it may not take long: 2 s beyond what was allowed are for the database."""
        if seconds > self._options.drain_timeout + 2.5:
            self._violate(f"{self.name} took {seconds:.1f} s to stop")
        if any(request.reply is not None and not request.reply.done() for request in self._requests):
            self._violate(f"{self.name} has stopped and left a request without an answer")
        if self.system.gate.running:
            self._violate(f"{self.name} has stopped with a place among the attempts given away")
        if self.system.resident:
            self._violate(f"{self.name} has stopped with an actor in memory")
        if left := self._loop.tasks_of(self.process):
            self._violate(f"{self.name} has stopped with a task that runs: {left[0]}")

    def _on_death(self) -> None:
        self.is_open = False
        self.disturbed += 1
        for request in list(self._requests):
            self._settle(request, Lost())

    def _take(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if request.answered.done():
                continue
            try:
                request.reply = request.ask(self.system)
            except (Unavailable, CallError) as error:
                self._settle(request, error)
            else:
                request.reply.add_done_callback(partial(self._hear, request))

    def _hear(self, request: Request, reply: "Future[Any]") -> None:
        if not request.answered.done():
            self._settle(request, reply.exception() or reply.result())

    def _settle(self, request: Request, answer: object) -> None:
        del self._requests[request]
        self._judge(request, answer)
        request.answered.set_result(answer)


def _options(name: str, conditions: Conditions) -> SystemOptions:
    return SystemOptions(
        node=name,
        policy=POLICY,
        gate=GateLimits(
            attempts=conditions.attempts_at_once, failures=conditions.failures_to_pause, pause=_PAUSE
        ),
        grace=conditions.grace,
        drop_timeout=1.0,
        call_idle_timeout=conditions.call_idle_timeout,
        ack_timeout=conditions.ack_timeout,
        drain_timeout=conditions.drain_timeout,
        registry=RegistryLimits(
            mailbox=conditions.mailbox, resident=conditions.resident, idle_timeout=conditions.idle_timeout
        ),
        journal=JournalLimits(batch=conditions.batch, share=min(64, conditions.batch)),
    )
