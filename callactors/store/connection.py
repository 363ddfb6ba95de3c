"""Connections that are set up for durability, and what their errors mean."""

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias, TypeVar

import asyncpg

from callactors.errors import DatabaseUnreachable, StorageUnavailable, UnsafeDurability

log = logging.getLogger(__name__)

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

CONNECT_TIMEOUT: Final = 3.0
COMMAND_TIMEOUT: Final = 6.0  # above statement_timeout, so that the server gives up first
ACQUIRE_TIMEOUT: Final = 2.0
_FIRST_BACKOFF, _MAX_BACKOFF = 0.05, 0.5

_LOCK_TIMEOUT: Final = "2s"
_SERVER_SETTINGS: Final = {
    "application_name": "callactors",
    "default_transaction_isolation": "read committed",  # the fence needs a snapshot for each statement
    "enable_seqscan": "off",  # every statement has its index, and plans are kept while tables grow
    "idle_in_transaction_session_timeout": "10s",
    "jit": "off",
    "lock_timeout": _LOCK_TIMEOUT,
    "statement_timeout": "5s",
    "synchronous_commit": "on",
    "timezone": "UTC",
}
# A bitmap looks at all that fits before it gives the first row; a page must end where it is full.
_READ_SETTINGS: Final = {**_SERVER_SETTINGS, "enable_bitmapscan": "off"}
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_NOT_NOW: Final = (
    "08",
    "25006",
    "40",
    "53",
    "55P03",
    "57",
    "58",
)  # connection, standby after a failover, rollback, resources, lock, operator, system
_NEVER: Final = ("28", "3D", "42")  # password, no such database, no privilege


class RowsLocked(Exception):
    """A statement has waited for a lock that another session holds; it has changed nothing."""


def is_transient(error: BaseException) -> bool:
    """Whether the same unit of work may succeed when run again; whether it has succeeded is not known."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_NOT_NOW)
    return isinstance(error, _LOST)


async def connect(dsn: str, *, lock_timeout: str = _LOCK_TIMEOUT) -> Connection:
    """Open a connection on which a commit is durable and nothing waits for ever."""
    connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        server_settings={**_SERVER_SETTINGS, "lock_timeout": lock_timeout},
    )
    _keep_alive(connection)
    return connection


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """Lend a connection of one's own.

    Raises:
        DatabaseUnreachable: there is none, it broke, or the database refuses a statement.
    """
    try:
        connection = await connect(dsn)
        try:
            yield connection
        finally:
            await connection.close()
    except (*_LOST, asyncpg.PostgresError) as error:
        raise DatabaseUnreachable(_first_line(error)) from error


async def wait_for_database(dsn: str, *, patience: float) -> None:
    """Return when the database takes connections; say once that it does not yet.

    Raises:
        DatabaseUnreachable: it refuses this user or database, or *patience* seconds are over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    is_told = False
    while True:
        try:
            connection = await connect(dsn)
        except (ValueError, *_LOST, asyncpg.PostgresError) as error:
            sqlstate = getattr(error, "sqlstate", None) or ""
            if isinstance(error, ValueError) or sqlstate.startswith(_NEVER) or loop.time() >= deadline:
                raise DatabaseUnreachable(_first_line(error)) from error
            if not is_told:
                log.warning("waiting up to %g s for the database: %s", patience, _first_line(error))
                is_told = True
            await asyncio.sleep(_MAX_BACKOFF)
        else:
            await connection.close()
            return


async def check_durability(dsn: str, *, is_unsafe_allowed: bool) -> None:
    """Refuse a server that may lose what it has committed.

    Raises:
        UnsafeDurability: fsync or full_page_writes is off and *is_unsafe_allowed* is not set.
    """
    connection = await connect(dsn)
    try:
        query = (
            "select name, setting from pg_settings where name in ('fsync', 'full_page_writes') order by name"
        )
        unsafe = [
            f"{r['name']} = {r['setting']}" for r in await connection.fetch(query) if r["setting"] != "on"
        ]
    finally:
        await connection.close()
    if unsafe and not is_unsafe_allowed:
        raise UnsafeDurability(unsafe)
    if unsafe:
        log.warning("PostgreSQL runs with %s: a 202 does not survive a crash", ", ".join(unsafe))


async def open_pool(dsn: str, *, size: int) -> Pool:
    """Open the pool for reads."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        server_settings=_READ_SETTINGS,
        reset=_keep_session,
    )


async def _keep_session(_: object) -> None:
    """Save a round trip behind each read: none changes the session, and asyncpg ends open transactions."""


async def close_pool(pool: Pool) -> None:
    """Close *pool*, by force if it takes long."""
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection for a read.

    Raises:
        StorageUnavailable: there is none, it broke, or the database refuses the user or the statement.
    """
    try:
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT) as connection:
            yield connection  # type: ignore[misc]  # the proxy has the connection's methods
    except (*_LOST, asyncpg.PostgresError) as error:
        log.warning("a read failed: %s", _first_line(error))
        raise StorageUnavailable from error


class Session:
    """A long-lived connection that comes back: it runs a unit of work until it is through.

    For use by one task. *name* is said in the log, *lock_timeout* is how long a statement waits for a lock.
    """

    def __init__(self, dsn: str, name: str, *, lock_timeout: str = _LOCK_TIMEOUT) -> None:
        self._dsn = dsn
        self._name = name
        self._lock_timeout = lock_timeout
        self._connection: Connection | None = None
        self._lost_at: float | None = None

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, gives_way: bool = False) -> T:
        """Return what *work* returns; after a transient error run it again, with backoff, for ever.

        Raises:
            RowsLocked: *work* has waited for a lock, and *gives_way* instead of trying again.
            Exception: what *work* raised, if it is not transient.
        """
        backoff = _FIRST_BACKOFF
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._reconnect()
                return await work(self._connection)
            except Exception as error:
                if gives_way and isinstance(error, asyncpg.LockNotAvailableError):
                    raise RowsLocked from error
                is_connecting = self._connection is None
                if not (is_connecting or is_transient(error)):
                    raise
                self._lose(error)
            await asyncio.sleep(backoff * random.uniform(0.5, 1))  # noqa: S311
            backoff = min(backoff * 2, _MAX_BACKOFF)

    def close(self) -> None:
        """Close the connection at once; what is under way on it is given up."""
        if self._connection is not None:
            with suppress(*_LOST):
                self._connection.terminate()
            self._connection = None

    async def _reconnect(self) -> Connection:
        connection = await connect(self._dsn, lock_timeout=self._lock_timeout)
        if self._lost_at is not None:
            log.info("%s has the database again after %.1f s", self._name, _now() - self._lost_at)
            self._lost_at = None
        return connection

    def _lose(self, error: Exception) -> None:
        # Also after a timeout or a deadlock: no statement of this session may still be under way.
        self.close()
        if self._lost_at is None:
            self._lost_at = _now()
            log.warning("%s lost the database: %s", self._name, _first_line(error))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _keep_alive(connection: Connection) -> None:
    """Notice a peer that is gone without a word; asyncpg leaves the kernel's two hours."""
    sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
