"""CallSystem: the one object that owns registry, journal, claims, feed, sweeper and processor."""

import asyncio
import logging
from asyncio import Future, Semaphore, Task
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any, Final, Self, TypeAlias, TypeVar

from callactors import tracing
from callactors.actors import Actor, ActorRegistry
from callactors.actors.actor import Home
from callactors.actors.deadlines import Deadlines
from callactors.ai_step import StepServices
from callactors.call import Call
from callactors.call_actor import CallActor, CallServices
from callactors.call_events import CallEvent, follow
from callactors.counts import CallCounts
from callactors.deliveries import Deliveries
from callactors.eraser import Eraser
from callactors.errors import (
    CallError,
    DatabaseUnreachable,
    Draining,
    StorageUnavailable,
    Unavailable,
    UnknownCall,
)
from callactors.facts import Accepted, Completed, Row
from callactors.feed import Feed, FeedItem
from callactors.hub import Hub
from callactors.logs import about
from callactors.loop_lag import LoopLag
from callactors.messages import (
    Accept,
    AcceptMany,
    CancelCall,
    Complete,
    Describe,
    DropStream,
    FromVendor,
    Message,
    OwnMessage,
    RetryCall,
    Wake,
)
from callactors.options import SystemOptions
from callactors.packets import CompleteRequest, Packet
from callactors.processors.contract import Processor
from callactors.processors.gate import Gate
from callactors.retention import Retention
from callactors.routing import LocalCalls, Router
from callactors.store import calls
from callactors.store.api_keys import KeyRing
from callactors.store.audit import try_to_write_audit
from callactors.store.calls import StoredCall
from callactors.store.claims import Claims
from callactors.store.connection import (
    Connection,
    Pool,
    check_durability,
    close_pool,
    open_pool,
    reading,
    wait_for_database,
)
from callactors.store.contents import ContentsReader, read_page
from callactors.store.due import Due, LostStream
from callactors.store.erasure import Erased
from callactors.store.events import Cursor, identify
from callactors.store.journal import Journal
from callactors.store.migrations import migrate
from callactors.store.nodes import Node
from callactors.store.snapshot import Snapshot, Snapshots
from callactors.store.stats import Stats
from callactors.sweeper import Sweeper
from callactors.untold import Untold

log = logging.getLogger(__name__)

R = TypeVar("R")

_READ_CONNECTIONS: Final = 5
_LONG_READS: Final = 2  # at once, so that the committers have their share of the database
_COMMITTERS: Final = 2  # while the database has the batch of one, the other's is made
_Part: TypeAlias = Journal | Claims | Feed | Sweeper | Eraser | Retention | Deliveries | ContentsReader
_LAST_FLUSH: Final = 1.0  # seconds that the journal gets at least after the actors have drained


class CallSystem:
    """Takes packets and completes, and sees every call to its end.

    Started and stopped once, or used by `async with`. *actor* makes the actor of a call; *router* brings what
    is asked here to the call's server, where several are one cluster.
    """

    def __init__(
        self,
        dsn: str,
        processor: Processor,
        options: SystemOptions,
        *,
        actor: Callable[[str, Home[Message], CallServices], Actor[str, Message]] = CallActor,
        router: Router | None = None,
    ) -> None:
        self._dsn = dsn
        self._processor = processor
        self._actor = actor
        self.router = router
        self.options = options
        self.hub: Hub[FeedItem] = Hub()
        self.counts = CallCounts()
        self.untold = Untold(self.hear)
        self.loop_lag = LoopLag()
        self.is_draining = False
        self.is_traced = tracing.is_on()  # asked for each packet it would cost a tenth of it
        self.failed: str | None = None
        """Why the system cannot work any more: a part of it ended that must not. Only a restart helps."""
        self._deadlines = Deadlines(options.ack_timeout, StorageUnavailable)
        self._services: list[Task[None]] = []
        self._attempts: set[Task[None]] = set()
        self._long_reads = Semaphore(_LONG_READS)
        self._snapshots = Snapshots(self.reading_long)

    async def start(self) -> None:
        """Bring the database up to date, join the other servers, and take up what is due.

        Raises:
            StartupError: the database cannot be used; the text says the mend.
        """
        options = self.options
        await wait_for_database(self._dsn, patience=options.database_patience)
        await check_durability(self._dsn, is_unsafe_allowed=options.is_unsafe_durability_allowed)
        await migrate(self._dsn)
        self._log_id = await identify(self._dsn)
        self._pool: Pool = await open_pool(self._dsn, size=_READ_CONNECTIONS)
        self.stats = Stats(self._pool)
        self._contents = ContentsReader(self._pool)
        self.keys = KeyRing(self._pool)
        await self._load_keys()
        self._make_parts()
        await self._node.join()
        await self.feed.open()
        self._registry.start()
        for part in (self._node, self.loop_lag, *self._parts):
            self._serve(part.run(), type(part).__name__)
        self._serve(self.feed.watch(), "Feed")
        self._serve(self.keys.run(), "KeyRing")
        if self.router is not None:
            self._open(self.router)

    def _make_parts(self) -> None:
        options = self.options
        self._node = Node(
            self._dsn,
            options.node,
            count_packets=lambda: self._journal.packets,
            is_routed=lambda: self.router is not None and self.router.is_up,
        )
        self.feed = Feed(self._dsn, self._pool, self.hub, self._log_id, on_erased=self._on_erased)
        first_wake = options.lifetimes.until_look()
        self._claims = Claims(self._dsn, self._node, on_events=self._on_events, first_wake=first_wake)
        self._journal = Journal(
            self._dsn,
            self._node.owner,
            on_events=self._on_events,
            committers=_COMMITTERS,
            limits=options.journal,
        )
        self.gate = Gate(options.gate, on_change=self.feed.tell_step)
        self._registry: ActorRegistry[str, Message] = ActorRegistry(
            self._make_actor, limits=options.registry, key_name="call_id"
        )
        self._sweeper = Sweeper(
            self._dsn, self._node, wake=self._wake, drop=self._drop, tell=self.untold.tell
        )
        self._eraser = Eraser(self._dsn, on_events=self._on_events)
        self._retention = Retention(self._dsn, options.retention)
        self.deliveries = Deliveries(self._dsn, options.deliveries)
        self._call_services = self._make_call_services()

    async def _load_keys(self) -> None:
        try:
            await self.keys.load()
        except StorageUnavailable:
            raise DatabaseUnreachable("it has stopped to answer") from None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def drain(self) -> None:
        """Refuse new work and let the supervisors go; `stop` does the rest."""
        self.is_draining = True
        self.hub.close()
        if self.router is not None:
            self.router.let_all_go()

    async def stop(self) -> None:
        """Let every actor finish what it has, write everything down, and leave."""
        self.drain()
        deadline = monotonic() + self.options.drain_timeout
        await self._registry.stop(timeout=self.options.drain_timeout)
        for task in self._attempts:
            task.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        self.gate.close()
        await self._journal.drain(timeout=max(_LAST_FLUSH, deadline - monotonic()))
        for task in self._services:
            task.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)
        for part in self._parts:
            part.close()
        await self._node.leave()
        await self.stats.close()
        await close_pool(self._pool)
        self._deadlines.close()

    def accept(self, call_id: str, packet: Packet) -> "Future[Accepted]":
        """Store *packet*; the future tells what was decided about it.

        Raises:
            CallError: the call does not take it.
            Unavailable: whether it was stored is not known; send it again.
        """
        self.admit()
        return self._ask(call_id, Accept(packet))

    def accept_many(
        self, call_id: str, packets: Sequence[Packet]
    ) -> "Future[list[Accepted | CallError | Unavailable]]":
        """Store *packets*, which take one place in the mailbox; the future tells what became of them.

        An Accepted may stand for several that came as expected, see its `packets`.

        Raises:
            Unavailable: whether they were stored is not known; send them again.
            ValueError: there are none.
        """
        if not packets:
            raise ValueError("no packets")
        self.admit()
        return self._ask(call_id, AcceptMany(packets))

    def complete(self, call_id: str, request: CompleteRequest | None = None) -> "Future[Completed]":
        """End a call; repeating it changes nothing.

        Raises:
            UnknownCall: no packet of it was stored yet.
            Unavailable: whether it was stored is not known; send it again.
        """
        self.admit()
        return self._ask(call_id, Complete(request or CompleteRequest()), reserved=True)

    def ask(self, call_id: str, message: OwnMessage[R]) -> "Future[R]":
        """Hand *message* to the call's actor; the future is for what its `receive_other` returns or raises.

        Raises:
            UnknownCall, CallErased: there is no such call.
            Unavailable: the actor may not have had it; Fenced: it is on another server.
        """
        self.admit()
        return self._ask(call_id, message)

    def tell(self, call_id: str, message: OwnMessage[Any]) -> None:
        """Do as `ask`; what goes wrong later is for the log to say."""
        self.ask(call_id, message).add_done_callback(partial(_log_failure, call_id, message))

    def subscribe(self, since: str | None = None) -> AsyncGenerator[CallEvent, None]:
        """Yield the events of all calls, on whichever server: from now on, or those behind a cursor.

        It ends when the system drains. Who is slow is caught up from the log, so that nothing is missed.

        Raises:
            ValueError: *since* is no cursor.
            LogPurged: the log does not reach back so far, or is another.
            StorageUnavailable: the database does not answer; go on behind the last cursor later.
        """
        cursor = self.feed.cursor if since is None else Cursor.parse(since)
        if cursor is None:
            raise ValueError("this is no cursor of an event")
        return follow(self.feed, self.hub, cursor)

    def hear(self, call_id: str, message: FromVendor) -> "Future[None]":
        """Take what a vendor tells beside packets; a stream that begins or a status may begin a call.

        Raises:
            CallError: the call does not take it.
            Unavailable: whether it was stored is not known; tell it again.
        """
        self.admit()
        return self._ask(call_id, message, reserved=True)

    def retry(self, call_id: str) -> "Future[int]":
        """Let the AI step of a failed call run again; the future tells which generation that is.

        Raises:
            UnknownCall, CallErased, CallNotFailed: there is none that could.
            Unavailable: whether it was stored is not known; look at the call.
        """
        self.admit()
        return self._ask(call_id, RetryCall(), reserved=True)

    def cancel(self, call_id: str) -> "Future[None]":
        """End a live call in FAILED, whatever it is at.

        Raises:
            UnknownCall, CallErased, CallEnded: there is none that could end.
            Unavailable: whether it was stored is not known; ask again.
        """
        self.admit()
        return self._ask(call_id, CancelCall(), reserved=True)

    async def note(self, actor: str, action: str, call_id: str | None, detail: Mapping[str, Any]) -> None:
        """Add a line about what is done already to the audit; if that fails, the log says so."""
        try:
            async with self.reading() as connection, connection.transaction():
                await connection.execute("set transaction read write")
                await try_to_write_audit(connection, actor, action, call_id=call_id, detail=detail)
        except StorageUnavailable:
            about(log, call_id).warning("%s by %s, but there is no line in the audit", action, actor)

    def erase(self, call_id: str, actor: str) -> "Future[Erased]":
        """Erase a call, whoever owns it, at the request of *actor*; repeating it changes nothing.

        Raises:
            UnknownCall: there is none.
            Unavailable: whether it was erased is not known; ask again.
        """
        self.check_not_draining()
        reply = self._eraser.erase(call_id, actor)
        self._deadlines.watch(reply)
        return reply

    async def read(self, call_id: str) -> StoredCall:
        """Return a call as it is committed.

        Raises:
            UnknownCall, CallErased: there is none any more, or never was.
            StorageUnavailable: the database does not answer.
        """
        row: Row | None = None
        if (call_id in self._registry or self.router is not None) and not self.is_draining:
            row = await self._ask(call_id, Describe(), reserved=True)
        stored = await calls.read(self._pool, call_id)
        if stored is None:
            raise UnknownCall(call_id)
        # The actor's counts are newer than the row's, unless the call has moved on since it was asked.
        if row is not None and row.facts.version >= stored.call.facts.version:
            return stored._replace(call=Call(call_id, row))
        return stored

    def snapshot(self, call_ids: Set[str] = frozenset()) -> Snapshot:
        """Return the calls of *call_ids*, or else those that have not ended and the newest that have.

        Counts may be a minute old. Without *call_ids* who asks within a second of another is given the same.
        """
        return self._snapshots.begin(self.feed.cursor, call_ids)

    def reading(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection for a read.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        return reading(self._pool)

    @asynccontextmanager
    async def reading_long(self) -> AsyncIterator[Connection]:
        """Lend a connection for a read of many rows, when few others do the like: commits go before.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        async with self._long_reads, self.reading() as connection:
            yield connection

    def admit(self) -> None:
        """Do nothing if new work is welcome.

        Raises:
            Draining, StorageUnavailable, Overloaded: it is not.
        """
        self.check_not_draining()
        self._journal.admit()
        self._claims.admit(max_age=self.options.journal.max_age)

    def check_not_draining(self) -> None:
        """Raise Draining if the system is about to stop."""
        if self.is_draining:
            raise Draining

    def has(self, call_id: str) -> bool:
        """Whether the call has an actor in memory."""
        return call_id in self._registry

    @property
    def server(self) -> str:
        """The name of this boot of the node, as others have it of a stream whose connection is here."""
        return self._node.owner

    @property
    def journal(self) -> Journal:
        """What commits, for who reads what it counts."""
        return self._journal

    @property
    def registry(self) -> ActorRegistry[str, Message]:
        """Where the actors are, for who reads what it counts."""
        return self._registry

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections to the database there are for reads, and how many of them nobody uses."""
        return self._pool.get_size(), self._pool.get_idle_size()

    @property
    def resident(self) -> int:
        """How many calls have an actor in memory."""
        return len(self._registry)

    @property
    def storage_lag(self) -> float:
        """How long the oldest change or claim has been waiting for the database, in seconds."""
        waiting = [since for since in (self._journal.oldest, self._claims.oldest) if since is not None]
        return monotonic() - min(waiting) if waiting else 0.0

    async def ping(self) -> None:
        """Return if the database answers.

        Raises:
            StorageUnavailable: it does not.
        """
        await calls.ping(self._pool)

    @property
    def _parts(self) -> "tuple[_Part, ...]":
        """What runs as long as the system, and is closed with it."""
        parts = self._journal, self._claims, self.feed, self._sweeper, self._eraser, self._retention
        return *parts, self.deliveries, self._contents

    def _ask(self, call_id: str, message: Message, *, reserved: bool = False) -> "Future[Any]":
        way = self._registry if self.router is None else self.router
        if self.is_traced:
            reply = tracing.stored(partial(way.ask, call_id, message, reserved=reserved), call_id)
        else:
            reply = way.ask(call_id, message, reserved=reserved)
        self._deadlines.watch(reply)
        return reply

    def _on_events(self) -> None:
        self.feed.poke()
        self.deliveries.poke()
        if self.router is not None:
            self.router.poke()

    def _wake(self, call: Due) -> None:
        # An actor that does nothing about what is long due does not know that the call was claimed anew.
        is_asleep = call.is_overdue and self._registry.is_idle(call.call_id)
        is_to_wake = call.is_in_progress or is_asleep or call.call_id not in self._registry
        if is_to_wake and not self.is_draining:
            with suppress(Unavailable):  # too many are resident: the next sweep finds it again
                self._registry.tell(call.call_id, Wake())

    def _drop(self, lost: LostStream) -> None:
        if not self.is_draining:
            with suppress(Unavailable):  # as above
                self._registry.tell(lost.call_id, DropStream(lost.stream, lost.server))

    def _on_erased(self, call_id: str) -> None:
        """Let no later snapshot have it, and its actor find out that it is fenced, which ends its attempt."""
        self._snapshots.forget()
        if call_id in self._registry and not self.is_draining:
            with suppress(Unavailable):
                self._registry.tell(call_id, Describe())

    def _make_actor(self, call_id: str, home: Home[Message]) -> Actor[str, Message]:
        return self._actor(call_id, home, self._call_services)

    def _make_call_services(self) -> CallServices:
        return CallServices(
            claims=self._claims,
            journal=self._journal,
            step=StepServices(
                processor=self._processor,
                gate=self.gate,
                policy=self.options.policy,
                read_contents=self._contents.read,
                read_page=partial(read_page, self._pool),
                spawn=self._spawn_attempt,
                counts=self.counts,
            ),
            lifetimes=self.options.lifetimes,
            max_packets=self.options.max_call_packets,
            max_size=self.options.max_call_size,
            read_data=partial(calls.read_data, self._pool),
            counts=self.counts,
            server=self.server,
            router=self.router,
        )

    def _open(self, router: Router) -> None:
        async def find_out_of_reach(call_ids: Sequence[str]) -> list[str]:
            async with self.reading() as connection:
                return await self._node.find_out_of_reach(connection, call_ids)

        local = LocalCalls(
            owner=self.server,
            log_id=self._log_id,
            has=self.has,
            admit=self.admit,
            ask=self._registry.ask,
            find_out_of_reach=find_out_of_reach,
            poke_feed=self.feed.poke,
            tell_routed=self._node.beat_soon,
        )
        router.open(local)
        self._serve(router.run(), type(router).__name__)

    def _spawn_attempt(self, attempt: Coroutine[Any, Any, None]) -> Task[None]:
        task = asyncio.create_task(attempt)
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)
        return task

    def _serve(self, service: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(service, name=name)
        task.add_done_callback(self._on_service_end)
        self._services.append(task)

    def _on_service_end(self, task: Task[None]) -> None:
        if not task.cancelled():
            self.failed = f"{task.get_name()} has ended"
            log.critical("%s must not end: restart the server", task.get_name(), exc_info=task.exception())


def _log_failure(call_id: str, message: OwnMessage[Any], reply: "Future[Any]") -> None:
    if not reply.cancelled() and (error := reply.exception()) is not None:
        log.warning("call %s: %s failed: %s", call_id, type(message).__name__, type(error).__name__)
