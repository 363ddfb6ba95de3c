"""Migrations: the files of sql/, applied in order, forward only."""

import hashlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from asyncpg import Record

from callactors.errors import DatabaseTooNew, MigrationEdited
from callactors.store.connection import Connection, connect

log = logging.getLogger(__name__)

_HERE = Path(__file__).resolve().parent.parent
SQL_DIR: Final = next(path for path in (_HERE / "sql", _HERE.parent / "sql") if path.is_dir())

_LOCK: Final = 0x63616C6C  # "call"
_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")
_OLDEST: Final = re.compile(r"-- oldest-code: (\d+)")

_TABLE: Final = """
create table if not exists schema_migrations (
    number integer primary key,
    name text not null,
    sha256 text not null,
    oldest_code integer not null,
    applied_at timestamptz not null default now()
)
"""
_APPLIED: Final = "select number, name, sha256, oldest_code from schema_migrations order by number"
_HAS_TABLE: Final = "select to_regclass('schema_migrations') is not null"
_RECORD: Final = "insert into schema_migrations (number, name, sha256, oldest_code) values ($1, $2, $3, $4)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `oldest_code` is the number of the newest migration that the oldest fitting code knows."""

    number: int
    name: str
    oldest_code: int
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class State(NamedTuple):
    """The names of migrations that this code has and the database has not, and the other way round."""

    pending: list[str]
    newer: list[str]


def read_migrations(directory: Path = SQL_DIR) -> list[Migration]:
    """Return the migrations in *directory*, which are NNNN_name.sql and state `-- oldest-code: N` first."""
    return [_read(path) for path in sorted(directory.glob("*.sql"))]


async def migrate(dsn: str, migrations: list[Migration] | None = None) -> list[str]:
    """Bring the database up to date, one transaction a file, and return the names applied.

    Several servers may do this at once; one of them works, the others wait.

    Raises:
        DatabaseTooNew: a newer code has applied a migration that this code does not fit.
        MigrationEdited: an applied file has another content now.
    """
    known = read_migrations() if migrations is None else migrations
    connection = await connect(dsn)
    try:
        await connection.execute("set statement_timeout = 0; set lock_timeout = 0")
        await connection.fetchval("select pg_advisory_lock($1)", _LOCK, timeout=600)
        return await _apply(connection, known)
    finally:
        await connection.close()


async def read_state(connection: Connection) -> State:
    """Return how the database stands to this code, and change nothing.

    Raises:
        DatabaseTooNew, MigrationEdited: as `migrate` does.
    """
    known = read_migrations()
    applied = await connection.fetch(_APPLIED) if await connection.fetchval(_HAS_TABLE) else []
    pending = _find_pending(known, applied)
    newer = [row["name"] for row in applied if row["number"] > known[-1].number]
    return State([migration.name for migration in pending], newer)


def _read(path: Path) -> Migration:
    sql = path.read_text(encoding="utf-8")
    name, oldest = _NAME.fullmatch(path.name), _OLDEST.match(sql)
    if name is None or oldest is None:
        raise ValueError(f"{path} is not NNNN_name.sql beginning with '-- oldest-code: N'")
    return Migration(int(name[1]), path.name, int(oldest[1]), sql)


async def _apply(connection: Connection, known: list[Migration]) -> list[str]:
    await connection.execute(_TABLE)
    pending = _find_pending(known, await connection.fetch(_APPLIED))
    for migration in pending:
        async with connection.transaction():
            await connection.execute(migration.sql, timeout=3600)
            await connection.execute(
                _RECORD, migration.number, migration.name, migration.sha256, migration.oldest_code
            )
        log.info("applied migration %s", migration.name)
    return [migration.name for migration in pending]


def _find_pending(known: list[Migration], records: Iterable[Record]) -> list[Migration]:
    code, applied = known[-1].number, {record["number"]: record for record in records}
    for row in applied.values():
        if row["number"] > code and row["oldest_code"] > code:
            raise DatabaseTooNew(row["name"], code, row["oldest_code"])
    for migration in known:
        if migration.number in applied and applied[migration.number]["sha256"] != migration.sha256:
            raise MigrationEdited(migration.name)
    return [migration for migration in known if migration.number not in applied]
