"""Migrations: each file once and whole, and never one that was changed afterwards."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from callactors.errors import DatabaseTooNew, MigrationEdited
from callactors.store.migrations import Migration, migrate, read_migrations
from tests.storage import Sql, session, until_waiting

KNOWN = read_migrations()
NEXT = KNOWN[-1].number + 1


def migration(number: int, sql: str, *, oldest_code: int = 1) -> Migration:
    return Migration(number, f"{number:04}_test.sql", oldest_code, sql)


async def applied(sql: Sql) -> list[int]:
    return [row["number"] for row in await sql.fetch("select number from schema_migrations order by 1")]


async def test_several_servers_that_start_at_once_apply_each_file_once(dsn: str, sql: Sql) -> None:
    known = [*KNOWN, migration(NEXT, "create table one (); select pg_sleep(0.05)")]
    known.append(migration(NEXT + 1, "create table two ()"))
    done = await asyncio.gather(*(migrate(dsn, known) for _ in range(5)))
    names = [known[-2].name, known[-1].name]
    assert sorted(done) == [[], [], [], [], names]
    assert await applied(sql) == [m.number for m in known]


async def test_server_waits_for_another_that_migrates(dsn: str, sql: Sql) -> None:
    """Longer than its connections wait for a lock otherwise."""
    await sql.execute("create table limits (statement text, lock text)")
    look = "insert into limits values (current_setting('statement_timeout'), current_setting('lock_timeout'))"
    known = [*KNOWN, migration(NEXT, look)]
    async with session(dsn) as other, other.transaction():
        await other.execute("lock table limits")
        first, second = (asyncio.create_task(migrate(dsn, known)) for _ in range(2))
        await until_waiting(sql, 2)
        assert not first.done()
        assert not second.done()
    assert sorted([await first, await second]) == [[], [known[-1].name]]
    assert [tuple(row) for row in await sql.fetch("select * from limits")] == [("0", "0")]


async def test_file_that_fails_is_rolled_back_whole_and_those_before_it_stay(dsn: str, sql: Sql) -> None:
    known = [*KNOWN, migration(NEXT, "create table good ()")]
    bad = migration(NEXT + 1, "create table bad (); select 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(dsn, [*known, bad])
    assert await applied(sql) == [m.number for m in known]
    assert await sql.fetchval("select to_regclass('bad')") is None
    mended = migration(NEXT + 1, "create table bad ()")
    assert await migrate(dsn, [*known, mended]) == [mended.name]


async def test_file_and_the_record_of_it_are_one_commit(dsn: str, sql: Sql) -> None:
    bad = migration(NEXT, f"create table bad (); alter table schema_migrations add check (number < {NEXT})")
    with pytest.raises(asyncpg.CheckViolationError):
        await migrate(dsn, [*KNOWN, bad])
    assert await sql.fetchval("select to_regclass('bad')") is None


async def test_applied_file_with_another_content_is_refused(dsn: str, sql: Sql) -> None:
    await migrate(dsn, [*KNOWN, migration(NEXT, "create table one ()")])
    edited = [
        *KNOWN,
        migration(NEXT, "create table one (); -- more"),
        migration(NEXT + 1, "create table two ()"),
    ]
    with pytest.raises(MigrationEdited, match=f"{NEXT:04}_test.sql"):
        await migrate(dsn, edited)
    assert await applied(sql) == [*(m.number for m in KNOWN), NEXT]


async def test_newer_database_is_used_unless_its_migration_says_that_this_code_is_too_old(dsn: str) -> None:
    code = KNOWN[-1].number
    additive = migration(NEXT, "create table one ()", oldest_code=code)
    await migrate(dsn, [*KNOWN, additive])
    assert await migrate(dsn) == []
    breaking = migration(NEXT + 1, "alter table calls rename to telephone_calls", oldest_code=NEXT + 1)
    await migrate(dsn, [*KNOWN, additive, breaking])
    with pytest.raises(DatabaseTooNew, match=f"{NEXT + 1:04}_test.sql"):
        await migrate(dsn)


async def test_files_are_read_in_order_with_the_oldest_code_that_fits(tmp_path: Path) -> None:
    (tmp_path / "0002_b.sql").write_text("-- oldest-code: 1\ncreate table b ();\n")
    (tmp_path / "0001_a.sql").write_text("-- oldest-code: 1\ncreate table a ();\n")
    (tmp_path / "README").write_text("not a migration")
    found = read_migrations(tmp_path)
    assert [(m.number, m.name, m.oldest_code) for m in found] == [(1, "0001_a.sql", 1), (2, "0002_b.sql", 1)]
    assert found[0].sql.endswith("create table a ();\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0001_a.sql", "create table a ();"),
        ("0001_a.sql", "\n-- oldest-code: 1\n"),
        ("0001_a.sql", "-- oldest-code: one\n"),
        ("1_a.sql", "-- oldest-code: 1\n"),
        ("a.sql", "-- oldest-code: 1\n"),
    ],
)
def test_file_without_number_or_header_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        read_migrations(tmp_path)
