"""A PostgreSQL in memory: row locks, commits that take time, and all that may become of them."""

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from random import Random
from typing import Any, Final

import asyncpg

from tests.simulation.connection import SimulatedConnection
from tests.simulation.functions import Locking, Record
from tests.simulation.statements import Statement
from tests.simulation.tables import CallRow, Tables, Transaction
from tests.simulation.weather import Fate, Weather

_LATE: Final = 1.5  # seconds that something may come after its client has given it up


class Database:
    """One server; its own steps run in no process."""

    def __init__(self, loop: AbstractEventLoop, rng: Random, weather: Weather) -> None:
        self.loop = loop
        self.weather = weather
        self.is_up = True
        self.tables = Tables(loop.time)
        self.fates: dict[str, deque[Fate]] = {}
        """What becomes of the next statements that lock rows, by the name of their process."""
        self.on_commit: Callable[[Job, list[Record], list[CallRow]], None] = lambda *_: None
        self.rng = rng
        self.locks: dict[str, Transaction] = {}
        self._waiting: dict[str, deque[Job]] = {}
        self.later = partial(loop.call_later, context=Context())
        """Does something in so many seconds, whatever becomes of who wants it."""
        self._jobs: dict[Job, None] = {}  # in order
        self.reading = self.transaction()
        """The one of all statements that lock no rows."""

    def passes(self, most: float) -> float:
        """Return some seconds, up to *most*."""
        return self.rng.random() * most

    def submit(
        self, connection: SimulatedConnection, statement: Statement, arguments: tuple[Any, ...]
    ) -> "Future[list[Record]]":
        """Run *statement*; the future takes its rows."""
        job = Job(self, connection, statement, arguments)
        self._jobs[job] = None
        self.later(self.passes(self.weather.way), job.begin)
        return job.reply

    def transaction(self) -> Transaction:
        """Begin a transaction that is committed or rolled back by hand."""
        return Transaction(self.tables, self.locks)

    def lock(self, call_id: str, transaction: Transaction, job: "Job | None" = None) -> bool:
        """Lock a row, if it is free or already the *transaction*'s; else *job* waits for it."""
        owner = self.locks.setdefault(call_id, transaction)
        if owner is transaction:
            if call_id not in transaction.held:
                transaction.held.append(call_id)
            return True
        if job is not None:
            self._waiting.setdefault(call_id, deque()).append(job)
        return False

    def end(self, transaction: Transaction) -> None:
        """Let go of all locks."""
        held, transaction.held = transaction.held, []
        if not held:
            return
        for call_id in held:
            del self.locks[call_id]
        for call_id in held:
            waiting = self._waiting.get(call_id)
            if waiting and call_id not in self.locks:
                waiting.popleft().look_again()

    def hold(self, call_id: str, seconds: float) -> None:
        """Hold the lock of a row, if it is free, as a session elsewhere may."""
        transaction = self.transaction()
        if self.lock(call_id, transaction):
            self.later(seconds, self.end, transaction)

    def doom(self, process: str, fate: Fate) -> None:
        """Let *fate* befall the next statement of *process* that locks rows."""
        self.fates.setdefault(process, deque()).append(fate)

    def forget(self, job: "Job") -> None:
        """Count *job* as done."""
        self._jobs.pop(job, None)

    def give_up_waiting(self, job: "Job") -> None:
        """Wait for no lock any more."""
        for jobs in self._waiting.values():
            if job in jobs:
                jobs.remove(job)

    def shut(self) -> None:
        """Go down at once: what is not committed is gone, and all connections break."""
        self.is_up = False
        for job in list(self._jobs):
            job.cut()

    def open(self) -> None:
        """Come up again."""
        self.is_up = True


class Job:
    """One statement on its way."""

    __slots__ = (
        "_database", "_fate", "_is_over", "_steps", "_timer", "_transaction", "_wanted",
        "arguments", "connection", "reply", "statement",
    )  # fmt: skip

    def __init__(
        self, database: Database, connection: SimulatedConnection, statement: Statement, arguments: Any
    ) -> None:
        self.statement = statement
        self.connection = connection
        self.reply: Future[list[Record]] = database.loop.create_future()
        self._database = database
        self.arguments = arguments
        own = database.transaction() if statement.locks_rows else database.reading
        self._transaction = connection.transaction_by_hand or own
        self._fate: Fate | None = None
        self._steps: Locking | None = None
        self._wanted: str | None = None
        self._timer: TimerHandle | None = None
        self._is_over = False

    def begin(self) -> None:
        """Arrive at the server."""
        database, process = self._database, self.connection.process
        is_client_gone = process is not None and process.is_dead
        if self._is_over or (is_client_gone and database.rng.random() < 0.5):
            self._finish()
            return
        fates = self.statement.locks_rows and database.fates.get(process.name if process else "")
        if fates:
            self._begin_under(fates.popleft())
        else:
            self._run()

    def _begin_under(self, fate: Fate) -> None:
        self._fate, database = fate, self._database
        if fate is Fate.LOST_BEFORE:
            self.cut()
            return
        if fate is Fate.DEADLOCK:
            self._fail(asyncpg.DeadlockDetectedError("deadlock detected"))
            return
        if fate in (Fate.LATE, Fate.STRAY):
            self.connection.is_closed = True
            self._raise(asyncpg.ConnectionDoesNotExistError("connection was closed"))
        if fate is Fate.STRAY:
            self._timer = database.later(database.passes(_LATE), self._run)
            return
        self._run()

    def _run(self) -> None:
        try:
            found = self.statement.run(self._transaction, *self.arguments)
        except asyncpg.PostgresError as error:
            self._fail(error)
            return
        if isinstance(found, list):
            self._answer(found)
            return
        self._steps = found
        self.look_again()

    def look_again(self) -> None:
        """Take the locks that are free, up to the first that is not."""
        database = self._database
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        assert self._steps is not None
        try:
            call_id = self._wanted if self._wanted is not None else next(self._steps)
            while database.lock(call_id, self._transaction, self):
                call_id = next(self._steps)
        except StopIteration as end:
            self._execute(end.value)
        except asyncpg.PostgresError as error:
            self._fail(error)
        else:
            self._wanted = call_id
            self._timer = database.later(self.connection.lock_timeout, self._time_out)

    def cut(self) -> None:
        """Lose the connection, and what is not committed with it."""
        self.connection.is_closed = True
        self._fail(asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"))

    def _execute(self, rows: list[Record]) -> None:
        if self.connection.transaction_by_hand is not None:
            self._answer(rows)
            return
        database = self._database
        delay = database.passes(database.weather.commit)
        if self._fate is Fate.LATE:
            delay += database.passes(_LATE)
        self._timer = database.later(delay, self._commit, rows)

    def _commit(self, rows: list[Record]) -> None:
        database = self._database
        written = self._transaction.commit()
        database.on_commit(self, rows, written)
        database.end(self._transaction)
        self._steps = self._timer = None
        match self._fate:
            case None:
                self._timer = database.later(database.passes(database.weather.way), self._answer, rows)
            case Fate.LOST_AFTER:
                self.cut()
            case Fate.SWALLOWED:
                self._timer = database.later(self.connection.command_timeout, self._fail, TimeoutError())
            case _:
                self._finish()

    def _time_out(self) -> None:
        self._fail(asyncpg.LockNotAvailableError("canceling statement due to lock timeout"))

    def _answer(self, rows: list[Record]) -> None:
        if not self.reply.done():
            self.reply.set_result(rows)
        self._finish()

    def _raise(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)

    def _fail(self, error: Exception) -> None:
        self._raise(error)
        self._finish()

    def _finish(self) -> None:
        """Roll back what is not committed."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # it has this very job, and such a circle would be left to the collector
        if self._steps is not None:
            self._database.give_up_waiting(self)
            self._steps.close()
        if self.connection.transaction_by_hand is None:
            self._database.end(self._transaction)
        self._database.forget(self)
