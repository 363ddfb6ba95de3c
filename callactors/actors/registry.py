"""The registry: activation, passivation, restarts, and the bound on resident actors."""

import asyncio
import logging
from asyncio import Future, Task
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Generic, NamedTuple, TypeVar

from callactors.actors.actor import Actor, Home
from callactors.actors.mailbox import Envelope, Mailbox
from callactors.errors import ActorFailed, ActorStopped, Draining, Overloaded, Unavailable

_ROOM_SCAN: Final = 1_000  # how many of the least recently used are looked at before a message is refused
_LEAVING_AT_ONCE: Final = 1_000  # the idle timeout takes no more than half, a new actor needs room at once
_FAILURES_COUNTED: Final = 100
_TURN: Final = 64  # messages an actor takes in one go before others have their turn

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLimits:
    """Bounds of a registry; times in seconds."""

    mailbox: int = 256
    resident: int = 100_000
    idle_timeout: float = 60.0
    failure_window: float = 60.0


class Mailboxes(NamedTuple):
    """What waits in all mailboxes, in the fullest one, and for how many seconds the oldest message does."""

    messages: int
    fullest: int
    age: float


class ActorRegistry(Generic[K, M]):
    """Owns one actor per key, made on its first message and forgotten when idle.

    *make* is called with the key and the actor's home whenever an incarnation begins. *key_name* is
    the attribute of the log's records that has the key. The registry belongs to the loop that runs when it is
    made.
    """

    def __init__(
        self,
        make: Callable[[K, Home[M]], Actor[K, M]],
        *,
        limits: RegistryLimits | None = None,
        key_name: str = "actor",
    ) -> None:
        self.limits = limits or RegistryLimits()
        self.loop = asyncio.get_running_loop()  # asking for it costs a system call on Python 3.11
        self._make = make
        self.key_name = key_name
        self._cells: OrderedDict[K, _Cell[K, M]] = OrderedDict()  # the idle ones: least recently used first
        self._leaving = 0
        self._has_left = asyncio.Event()
        self.is_closed = False
        self.working: set[Mailbox[M]] = set()  # of cells with a task: all others are empty
        self.activations = 0
        self.passivations = 0
        self.restarts = 0
        self._reaper: Task[None] | None = None

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, key: K) -> bool:
        return key in self._cells

    def start(self) -> None:
        """Begin to passivate idle actors."""
        self._reaper = asyncio.create_task(self._reap(), name="actor-reaper")

    def tell(self, key: K, message: M) -> None:
        """Put *message* into the mailbox of *key*'s actor; it takes a reserved slot.

        Raises:
            Draining: the registry is stopping.
            Overloaded: too many actors are resident and none can leave.
        """
        self._cell(key).post(Envelope(message), reserved=True)

    def ask(self, key: K, message: M, *, reserved: bool = False, context: object = None) -> "Future[Any]":
        """Do as `tell`, and return a future for the reply. Whoever waits for it may be cancelled at will.

        *context* goes with the message, for the actor to make of it what it likes.

        Raises:
            MailboxFull: the mailbox is full and *reserved* is not set.
            Draining, Overloaded: as `tell`.
        """
        reply: Future[Any] = self.loop.create_future()
        cell, envelope = self._cell(key), Envelope(message, reply, context)
        if not cell.take_now(envelope):
            cell.post(envelope, reserved=reserved)
        return reply

    async def stop(self, *, timeout: float) -> None:
        """Refuse new messages, let every actor drain and stop, and answer what is left after *timeout*."""
        self.is_closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        try:
            async with asyncio.timeout(timeout):
                await self._empty()
        except TimeoutError:
            log.warning("%s actors did not stop within %s s", len(self), timeout)
        finally:
            await self._abandon()

    def is_idle(self, key: K) -> bool:
        """Whether *key* has an actor that has nothing to do and says that it is not busy."""
        cell = self._cells.get(key)
        return cell is not None and cell.can_leave()

    def look(self) -> Mailboxes:
        """Return how full the mailboxes are."""
        lengths = [len(mailbox) for mailbox in self.working]
        now = monotonic()
        oldest = min((mailbox.oldest for mailbox in self.working if mailbox), default=now)
        return Mailboxes(sum(lengths), max(lengths, default=0), now - oldest)

    def make(self, cell: "_Cell[K, M]") -> Actor[K, M]:
        self.activations += 1
        return self._make(cell.key, cell)

    def touch(self, cell: "_Cell[K, M]") -> None:
        """Count *cell* as used now."""
        cell.last_used = monotonic()
        self._cells.move_to_end(cell.key)

    def forget(self, cell: "_Cell[K, M]") -> None:
        self.mark_leaving(cell, False)
        del self._cells[cell.key]

    def mark_leaving(self, cell: "_Cell[K, M]", is_leaving: bool) -> None:
        if cell.is_leaving != is_leaving:
            cell.is_leaving = is_leaving
            self._leaving += 1 if is_leaving else -1
            self._has_left.set()

    def _cell(self, key: K) -> "_Cell[K, M]":
        if self.is_closed:
            raise Draining
        cell = self._cells.get(key)
        if cell is None:
            if self._is_full:
                self._make_room()
            cell = self._cells[key] = _Cell(key, self)
        return cell

    @property
    def _is_full(self) -> bool:
        return len(self._cells) - self._leaving >= self.limits.resident

    def _make_room(self) -> None:
        if self._leaving >= _LEAVING_AT_ONCE:
            raise Overloaded("too many actors are leaving")
        for _ in range(min(_ROOM_SCAN, len(self._cells))):
            cell = next(iter(self._cells.values()))
            self.touch(cell)  # one that stays must not be in the way of the next search
            if cell.can_leave():
                cell.passivate()
            if not self._is_full:
                return
        raise Overloaded("all resident actors are busy")

    async def _reap(self) -> None:
        idle_timeout = self.limits.idle_timeout
        while True:
            oldest = next(iter(self._cells.values()), None)
            left = idle_timeout if oldest is None else oldest.last_used + idle_timeout - monotonic()
            await asyncio.sleep(max(left, idle_timeout / 10, 0.01))
            for cell in self._unused_since(monotonic() - idle_timeout):
                cell.passivate()
                await self._wait_for_fewer_leaving(_LEAVING_AT_ONCE // 2)

    def _unused_since(self, horizon: float) -> "Iterator[_Cell[K, M]]":
        """Yield what can leave; actors may come and go meanwhile."""
        while self._cells and (cell := next(iter(self._cells.values()))).last_used < horizon:
            self.touch(cell)
            if cell.can_leave():
                yield cell

    async def _empty(self) -> None:
        for cell in list(self._cells.values()):
            cell.passivate()
            await self._wait_for_fewer_leaving(_LEAVING_AT_ONCE)
        if tasks := [cell.task for cell in self._cells.values() if cell.task is not None]:
            await asyncio.wait(tasks)

    async def _wait_for_fewer_leaving(self, limit: int) -> None:
        while self._leaving >= limit:
            self._has_left.clear()
            await self._has_left.wait()

    async def _abandon(self) -> None:
        tasks = [] if self._reaper is None else [self._reaper]
        for cell in list(self._cells.values()):
            cell.abandon(ActorStopped())
            if cell.task is not None:
                cell.task.cancel()
                tasks.append(cell.task)
        await asyncio.gather(*tasks, return_exceptions=True)


class _Cell(Generic[K, M]):
    """The room of one key: its mailbox, its present actor, and its task while there is work."""

    __slots__ = (
        "_actor",
        "_failures",
        "_is_gone",
        "_mailbox",
        "_must_leave",
        "_registry",
        "is_leaving",
        "key",
        "last_used",
        "task",
    )

    def __init__(self, key: K, registry: ActorRegistry[K, M]) -> None:
        self.key = key
        self.task: Task[None] | None = None
        self.is_leaving = False
        self.last_used = 0.0
        self._registry = registry
        self._mailbox: Mailbox[M] = Mailbox(registry.limits.mailbox)
        self._actor: Actor[K, M] | None = None
        self._failures: list[float] | None = None
        self._must_leave = False
        self._is_gone = False

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        return logging.LoggerAdapter(log, {self._registry.key_name: self.key})

    def can_leave(self) -> bool:
        try:
            return self.task is None and not self._is_busy()
        except Exception:
            self.log.exception("actor %s does not say whether it is busy, so it stays", self.key)
            return False

    def _is_busy(self) -> bool:
        return self._actor is not None and self._actor.is_busy

    def post(self, envelope: Envelope[M], *, reserved: bool) -> None:
        self._mailbox.put(envelope, reserved=reserved)
        self._run()

    def take_now(self, envelope: Envelope[M]) -> bool:
        """Let an actor that is idle take *envelope* at once, if it can do so without waiting."""
        actor = self._actor
        if actor is None or self.task is not None or self.is_leaving:
            return False
        self._mailbox.count(envelope)
        self._actor = None  # what it asks itself meanwhile waits in the mailbox
        try:
            is_taken = actor.receive_now(envelope)
        except Exception as error:  # noqa: BLE001  # it is raised again where failures are dealt with
            envelope.error = error
            is_taken = False
        self._actor = actor
        if is_taken:
            self._registry.touch(self)
        return is_taken

    def tell(self, message: M) -> None:
        if not self._is_gone:  # else a timer or task of an incarnation that has left: what lasts is stored
            self.post(Envelope(message), reserved=True)

    def put_back(self, envelopes: Sequence[Envelope[M]]) -> None:
        if not self._is_gone:
            self._mailbox.put_back(envelopes)
            self._run()
            return
        for envelope in envelopes:
            envelope.fail(ActorStopped())

    def leave(self) -> None:
        self._must_leave = True
        self._run()

    def passivate(self) -> None:
        """Let the actor leave unless it is busy once its mailbox is empty."""
        if not self._is_gone:
            self._registry.mark_leaving(self, True)
            self._run()

    def abandon(self, error: Exception) -> None:
        """Leave without the actor's consent, and answer what is left."""
        while self._mailbox:
            self._mailbox.take().fail(error)
        self._go()

    def _go(self) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._registry.forget(self)

    def _run(self) -> None:
        if self.task is None and not self._is_gone:
            self.task = self._registry.loop.create_task(self._live())
            self._registry.working.add(self._mailbox)

    async def _live(self) -> None:
        """Take messages until there are none; leave if asked to."""
        try:
            await self._drain()
            while self._is_to_leave():
                await self._stop_actor()
                if not self._mailbox:
                    self._go()
                    return
                self._registry.mark_leaving(self, False)
                await asyncio.sleep(0)  # whoever tells itself something in on_stop must not hold the loop
                await self._drain()
        except Unavailable as error:
            self.log.warning("actor %s cannot go on and is dropped: %s", self.key, error)
            self.abandon(error)
        except asyncio.CancelledError:
            self.log.warning("actor %s was cancelled and is dropped", self.key)
            self.abandon(ActorStopped())
            raise
        except Exception:
            self.log.exception("actor %s cannot go on and is dropped", self.key)
            self.abandon(ActorFailed())
        finally:
            self.task = None
            self._registry.working.discard(self._mailbox)
            if not self._is_gone:
                self._registry.touch(self)

    def _is_to_leave(self) -> bool:
        if self._must_leave or self._registry.is_closed:
            return True
        if self.is_leaving and self._is_busy():
            self._registry.mark_leaving(self, False)
        return self.is_leaving

    async def _drain(self) -> None:
        taken = 0
        while self._mailbox:
            if self._actor is None:
                self._actor = self._registry.make(self)
                await self._actor.on_start()
            envelope = self._mailbox.take()
            try:
                if envelope.error is not None:
                    raise envelope.error
                await self._actor.receive(envelope)
            except asyncio.CancelledError:
                envelope.fail(ActorStopped())
                raise
            except Exception as error:
                self.log.exception("actor %s failed and is restarted", self.key)
                envelope.fail(ActorFailed())
                actor, self._actor = self._actor, None
                self._registry.restarts += 1
                await actor.on_failure(error, self._count_failure())
            taken += 1
            if taken % _TURN == 0:
                await asyncio.sleep(0)

    def _count_failure(self) -> int:
        now = monotonic()
        horizon = now - self._registry.limits.failure_window
        self._failures = [*(at for at in self._failures or () if at > horizon), now][-_FAILURES_COUNTED:]
        return len(self._failures)

    async def _stop_actor(self) -> None:
        self._must_leave = False
        actor, self._actor = self._actor, None
        if actor is not None:
            await actor.on_stop()
            self._registry.passivations += 1
