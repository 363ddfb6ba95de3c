"""What asyncpg gives the store, on the simulated database."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tests.simulation.functions import Record
from tests.simulation.loop import PROCESS, Process
from tests.simulation.statements import STATEMENTS
from tests.simulation.tables import Transaction

if TYPE_CHECKING:
    from tests.simulation.database import Database

_UNITS: Final = {"ms": 0.001, "s": 1.0}


class _NoTransport:
    """Has no socket."""

    def get_extra_info(self, name: str) -> None:
        return None


class SimulatedConnection:
    """One connection; it belongs to the process that made it."""

    def __init__(self, database: "Database", *, lock_timeout: float, command_timeout: float) -> None:
        self.process: Process | None = PROCESS.get()
        self.lock_timeout = lock_timeout
        self.command_timeout = command_timeout
        self.is_closed = False
        self.transaction_by_hand: Transaction | None = None
        self._database = database
        self._transport = _NoTransport()

    def fetch(self, query: str, *arguments: Any) -> "Future[list[Record]]":
        """Return the rows, to who waits for them."""
        if self.is_closed or not self._database.is_up:
            raise asyncpg.InterfaceError("connection is closed")
        return self._database.submit(self, STATEMENTS[query], arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Record | None:
        """Return the first row, if there is one."""
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """Return the first column of the first row, if there is one."""
        row = await self.fetchrow(query, *arguments)
        return None if row is None else next(iter(row.values()))

    async def execute(self, query: str, *arguments: Any) -> None:
        """Run a statement without rows."""
        await self.fetch(query, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Hold all locks until the end of the block."""
        self.transaction_by_hand = transaction = self._database.transaction()
        yield
        self.transaction_by_hand = None
        transaction.commit()
        self._database.end(transaction)

    def terminate(self) -> None:
        """Close at once; a statement under way may end or not."""
        self.is_closed = True

    async def close(self) -> None:
        """Close."""
        self.is_closed = True


class SimulatedPool:
    """Lends a connection of its own to each who asks."""

    def __init__(self, database: "Database") -> None:
        self._database = database

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[SimulatedConnection]:
        """Lend a connection."""
        if not self._database.is_up:
            raise ConnectionRefusedError("the database is down")
        yield SimulatedConnection(self._database, lock_timeout=2.0, command_timeout=timeout)

    async def close(self) -> None:
        """Close."""


async def connect(
    database: "Database", dsn: str, *, command_timeout: float, server_settings: dict[str, str], **_: Any
) -> SimulatedConnection:
    """Do as asyncpg.connect."""
    await asyncio.sleep(database.passes(database.weather.way))
    if not database.is_up:
        raise ConnectionRefusedError("the database is down")
    timeout = server_settings["lock_timeout"]
    unit = timeout.lstrip("0123456789")
    seconds = int(timeout.removesuffix(unit)) * _UNITS[unit]
    return SimulatedConnection(database, lock_timeout=seconds, command_timeout=command_timeout)
