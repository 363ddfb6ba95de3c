"""`callactors doctor`: what it finds, what it says of it, and that it changes nothing."""

import json
import time
from pathlib import Path

import pytest

from callactors import cli
from callactors.doctor import database, machine
from callactors.doctor.command import diagnose, run_doctor
from callactors.doctor.database import (
    check_database,
    check_durability,
    check_keys,
    check_settings,
    check_version,
)
from callactors.doctor.findings import Finding, Level, error, ok, warning
from callactors.doctor.machine import check_disk, check_extras, check_files, check_own_postgres
from callactors.settings import Settings
from callactors.store.checkup import Server, read_server
from callactors.store.connection import connect
from callactors.store.migrations import read_migrations
from tests.storage import Sql

NOWHERE = "postgresql://callactors:secret@127.0.0.1:1/callactors"
SETTINGS = Settings(unsafe_durability=True)
NEWEST = read_migrations()[-1]


async def look(dsn: str, check: str, settings: Settings = SETTINGS) -> Finding:
    """Return the one finding of *check*."""
    found = [finding for finding in await check_database(dsn, settings) if finding.check == check]
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
async def server(dsn: str) -> Server:
    connection = await connect(dsn)
    try:
        return await read_server(connection)
    finally:
        await connection.close()


async def test_a_database_that_is_well_is_told_so(dsn: str) -> None:
    found = await check_database(dsn, SETTINGS)
    assert {one.check for one in found if one.level is not Level.OK} == {"durability"}
    checks = [one.check for one in found]
    assert checks == [
        "database",
        "durability",
        "clock",
        "connections",
        "events",
        "migrations",
        "servers",
        "keys",
    ]


async def test_a_database_that_is_away_is_told_without_its_password() -> None:
    (found,) = await check_database(NOWHERE, SETTINGS)
    assert (found.check, found.level) == ("database", Level.ERROR)
    assert "secret" not in str(found)


def test_an_old_server_does_not_do(server: Server) -> None:
    assert check_version(server).level is Level.OK
    assert check_version(server._replace(major=13, version="13.4")).level is Level.ERROR


def test_what_a_crash_would_cost_is_an_error_unless_that_is_accepted(server: Server) -> None:
    (refused,) = check_durability(server, Settings())
    assert (refused.level, "fsync = off and full_page_writes = off" in refused.text) == (Level.ERROR, True)
    (accepted,) = check_durability(server, SETTINGS)
    assert accepted.level is Level.WARNING
    safe = server._replace(fsync="on", full_page_writes="on")
    assert [one.level for one in check_durability(safe, Settings())] == [Level.OK]
    (lost,) = check_durability(safe._replace(synchronous_commit="off"), SETTINGS)
    assert (lost.level, "asked for on" in lost.text) == (Level.ERROR, True)
    (waits,) = check_durability(safe._replace(standbys="two"), Settings())
    assert waits.text.endswith("waits for two")


def test_a_pooler_that_drops_settings_is_told(server: Server) -> None:
    assert check_settings(server) == []
    (told,) = check_settings(server._replace(lock_timeout="0"))
    assert told.level is Level.WARNING


async def test_clocks_that_differ_are_told(dsn: str) -> None:
    found = await check_database(dsn, SETTINGS, clock=lambda: time.time() + 3600)
    (told,) = [one for one in found if one.check == "clock"]
    assert told.level is Level.WARNING
    assert told.text.startswith("the database's is 3600.")
    assert "behind" in told.text


@pytest.mark.parametrize(("what", "others"), [("current_database()", 1), ("current_user", 2)])
async def test_too_few_connections_are_told(dsn: str, sql: Sql, what: str, others: int) -> None:
    """The fixture that has made the database is one of the user's others."""
    name = await sql.fetchval(f"select {what}::text")
    kind = "role" if what == "current_user" else "database"
    await sql.execute(f"alter {kind} {name} connection limit 5")
    try:
        told = await look(dsn, "connections")
        assert told.level is Level.WARNING
        assert told.text.startswith(f"PostgreSQL takes {5 - others - 1} more")
    finally:
        await sql.execute(f"alter {kind} {name} connection limit -1")


async def test_who_holds_back_the_events_is_named(
    dsn: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_HELD_BACK", 0.0)
    await sql.execute("set application_name = 'report'")
    async with sql.transaction():
        await sql.execute("create table held ()")
        told = await look(dsn, "events")
        pid = sql.get_server_pid()
        assert told.level is Level.WARNING
        assert f"a transaction of {pid} (report, user callactors) has been open for 0 s" in told.text
        assert told.mend == f"let it end, or select pg_terminate_backend({pid})"
    assert (await look(dsn, "events")).level is Level.OK


async def test_who_keeps_vacuum_from_its_work_is_named(
    dsn: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_OLD_SNAPSHOT", 0.0)
    async with sql.transaction(isolation="repeatable_read"):
        await sql.execute("select from calls")
        told = await look(dsn, "snapshots")
        assert (told.level, f"session {sql.get_server_pid()} " in told.text) == (Level.WARNING, True)


async def test_a_user_without_rights_is_told_that_others_are_not_shown(dsn: str, sql: Sql) -> None:
    name = f"stranger_{time.time_ns()}"
    await sql.execute(f"create role {name} login")
    try:
        await sql.execute(f"grant select on all tables in schema public to {name}")
        told = await look(dsn.replace("callactors@", f"{name}@"), "events")
        assert told.text.endswith("without pg_read_all_stats")
    finally:
        await sql.execute(f"drop owned by {name}; drop role {name}")


async def test_migrations_to_come_are_told_and_not_applied(dsn: str, sql: Sql) -> None:
    await sql.execute("delete from schema_migrations where number = $1", NEWEST.number)
    told = await look(dsn, "migrations")
    assert (told.level, told.text) == (Level.WARNING, f"1 are to be applied, {NEWEST.name} first")
    assert await sql.fetchval("select max(number) from schema_migrations") == NEWEST.number - 1


async def test_an_empty_database_stays_empty(dsn: str, sql: Sql) -> None:
    await sql.execute("drop schema public cascade; create schema public")
    told = await look(dsn, "migrations")
    assert (told.level, "0001_calls.sql first" in told.text) == (Level.WARNING, True)
    assert await sql.fetchval("select to_regclass('schema_migrations')") is None


async def test_a_migration_that_was_edited_is_an_error(dsn: str, sql: Sql) -> None:
    await sql.execute("update schema_migrations set sha256 = 'x' where number = 1")
    told = await look(dsn, "migrations")
    assert (told.level, "0001_calls.sql" in told.text) == (Level.ERROR, True)


@pytest.mark.parametrize(("oldest", "level"), [(1, Level.OK), (9_000, Level.ERROR)])
async def test_newer_code_at_the_database_is_told(dsn: str, sql: Sql, oldest: int, level: Level) -> None:
    await sql.execute(
        "insert into schema_migrations (number, name, sha256, oldest_code)"
        " values (9000, '9000_x.sql', 'x', $1)",
        oldest,
    )
    told = await look(dsn, "migrations")
    assert (told.level, "9000_x.sql" in told.text) == (level, True)


async def test_a_server_that_went_without_a_word_is_named(dsn: str, sql: Sql) -> None:
    await sql.execute(
        "insert into nodes values ('here/1', clock_timestamp(), 0),"
        " ('gone/2', clock_timestamp() - interval '1 minute', 0)"
    )
    found = [one for one in await check_database(dsn, SETTINGS) if one.check == "servers"]
    assert [one.level for one in found] == [Level.WARNING, Level.OK]
    assert found[0].text.startswith("gone/2 has been silent for 60 s")
    assert found[1].text == "alive: here"


@pytest.mark.parametrize(
    ("host", "is_insecure", "has_keys", "level"),
    [
        ("127.0.0.1", False, False, Level.OK),
        ("localhost", False, False, Level.OK),
        ("0.0.0.0", False, False, Level.ERROR),
        ("0.0.0.0", True, False, Level.WARNING),
        ("0.0.0.0", False, True, Level.OK),
    ],
)
def test_a_server_that_is_open_to_everybody_is_told(
    host: str, is_insecure: bool, has_keys: bool, level: Level
) -> None:
    settings = Settings(host=host, insecure=is_insecure)
    assert check_keys(settings, has_keys=has_keys).level is level


async def test_a_key_is_found(dsn: str, sql: Sql) -> None:
    settings = Settings(host="0.0.0.0", unsafe_durability=True)
    assert (await look(dsn, "keys", settings)).level is Level.ERROR
    await sql.execute("insert into api_keys (key_id, digest, scopes) values ('x', '', '{}')")
    assert (await look(dsn, "keys", settings)).level is Level.OK


def test_too_few_files_are_told() -> None:
    settings = Settings(max_connections=1_000)
    assert check_files(settings, limit=1_128).level is Level.OK
    told = check_files(settings, limit=1_127)
    assert (told.level, "1127 may be opened" in told.text) == (Level.WARNING, True)


def test_a_disk_that_gets_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = tmp_path / "not" / "yet"
    monkeypatch.setattr(machine, "_FULL", 1.0)
    assert check_disk(data_dir).level is Level.OK
    monkeypatch.setattr(machine, "_FULL", 0.0)
    assert check_disk(data_dir).level is Level.WARNING
    monkeypatch.setattr(machine, "_LEAST_FREE", 2**60)
    assert check_disk(data_dir).level is Level.ERROR


def test_data_of_another_version_are_told(tmp_path: Path) -> None:
    assert [one.level for one in check_own_postgres(tmp_path)][:2] == [Level.OK, Level.OK]
    (tmp_path / "pg9").mkdir()
    (tmp_path / "pg9" / "PG_VERSION").write_text("9\n")
    told = next(check_own_postgres(tmp_path))
    assert (told.check, told.level, "pg_upgrade" in told.text) == ("data", Level.ERROR, True)


def test_programs_that_are_not_there_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLACTORS_PG_BIN", str(tmp_path))
    told = next(check_own_postgres(tmp_path))
    assert (told.check, told.level) == ("programs", Level.ERROR)


def test_an_extra_that_is_set_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_EXTRAS", {"uvloop": ("not_installed_anywhere",)})
    assert [one.level for one in check_extras(Settings())] == [Level.OK]
    assert [one.level for one in check_extras(Settings(uvloop=True))] == [Level.ERROR]


async def test_without_a_database_url_nothing_is_started_or_made(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    options = cli._parser().parse_args(["doctor", "--json"])
    told = await run_doctor(Settings(database_url=None, data_dir=data_dir), options)
    checks = {one["check"]: one["level"] for one in json.loads(told.text)["checks"]}
    assert checks["database"] == "warning"
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("found", "is_strict", "code"),
    [
        ([ok("a", "well")], True, 0),
        ([ok("a", "well"), warning("b", "not so well", "mend it")], False, 0),
        ([ok("a", "well"), warning("b", "not so well", "mend it")], True, 1),
        ([error("c", "not well", "mend it"), warning("b", "not so well", "mend it")], True, 2),
    ],
)
def test_the_exit_code_says_how_bad_it_is(found: list[Finding], is_strict: bool, code: int) -> None:
    table, line = (diagnose(found, is_strict=is_strict, as_json=as_json) for as_json in (False, True))
    assert (table.code, line.code) == (code, code)
    assert len(table.text.splitlines()) == len(found) + 1
    assert len(json.loads(line.text)["checks"]) == len(found)


def test_each_finding_is_a_line_with_its_mend() -> None:
    assert str(warning("disk", "is full", "make room")) == "warning  disk         is full: make room"
    assert str(ok("disk", "is not full")) == "ok       disk         is not full"
