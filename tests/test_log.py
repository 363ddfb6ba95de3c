"""The event log: cursors, an order that skips nothing, and the identity that a restore changes."""

import asyncio
import json
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from callactors.store.events import (
    PAGE,
    START,
    Cursor,
    Position,
    find_holder,
    identify,
    is_behind,
    is_far,
    is_known,
    read_newest,
    read_page,
)
from tests.storage import ME, Sql, claim, session, until_waiting

numbers = st.integers(0, 2**63 - 1)
INSERT: Final = (
    "insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)"
    " values (1, $1, 'c', 'transition', 'COMPLETED', 0, '{\"a\": 1}')"
)


async def read_end(sql: Sql) -> Position:
    """The position of the newest event below the horizon."""
    newest = await read_newest(sql, 1)
    return newest[0].position if newest else START


async def versions(sql: Sql, after: Position = START) -> list[int]:
    """The events behind *after*, as a feed reads them."""
    return [event.version for event in await read_page(sql, after)]


@given(st.uuids().map(str), numbers, numbers)
def test_cursor_survives_its_text(log_id: str, xid: int, event_id: int) -> None:
    cursor = Cursor(log_id, Position(xid, event_id))
    assert Cursor.parse(str(cursor)) == cursor
    assert str(cursor).isascii()
    assert not set(str(cursor)) & set("=+/&?# ")


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_text_that_is_no_cursor_is_none(text: str) -> None:
    assert Cursor.parse(text) is None


@given(st.integers(), st.integers())
def test_cursor_out_of_range_is_none(xid: int, event_id: int) -> None:
    assume(not (0 <= xid < 2**63 and 0 <= event_id < 2**63))
    assert Cursor.parse(str(Cursor("log", Position(xid, event_id)))) is None


@given(st.uuids().map(str), numbers, numbers, st.data())
def test_mangled_cursor_is_none_or_one_in_range(
    log_id: str, xid: int, event_id: int, data: st.DataObject
) -> None:
    text = str(Cursor(log_id, Position(xid, event_id)))
    at = data.draw(st.integers(0, len(text)))
    mangled = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    cursor = Cursor.parse(mangled)
    assert cursor is None or all(0 <= number < 2**63 for number in cursor.position)


async def test_event_is_read_as_it_was_written(sql: Sql) -> None:
    await sql.execute(INSERT, 2)
    [event] = await read_page(sql, START)
    assert event[1:7] == ("c", 2, "transition", None, "COMPLETED", 0)
    assert json.loads(event.detail) == {"a": 1}
    assert event.at.tzinfo is not None
    assert await read_end(sql) == event.position


async def test_pages_follow_each_other_without_a_gap(sql: Sql) -> None:
    await sql.executemany(INSERT, [(version,) for version in range(1, 2 * PAGE + 11)])
    found: list[int] = []
    position = START
    while page := await read_page(sql, position):
        assert len(page) <= PAGE
        found += [event.version for event in page]
        position = page[-1].position
    assert found == list(range(1, 2 * PAGE + 11))
    assert position == await read_end(sql)
    assert not await is_behind(sql, position)


async def test_events_of_an_open_transaction_hold_later_ones_back_and_none_is_skipped(
    dsn: str, sql: Sql
) -> None:
    await sql.execute(INSERT, 1)
    begin = await read_end(sql)
    async with session(dsn) as slow, session(dsn) as quick:
        async with slow.transaction():
            await slow.execute(INSERT, 2)
            await quick.execute(INSERT, 3)
            assert await versions(sql, begin) == []
            assert await read_end(sql) == begin
            assert await is_behind(sql, begin), "what is committed is known, but not yet told"
            await slow.execute(INSERT, 4)
        assert await versions(sql, begin) == [2, 4, 3]
    assert await versions(sql) == [1, 2, 4, 3]


async def test_transaction_that_has_only_begun_to_write_elsewhere_holds_events_back(
    dsn: str, sql: Sql
) -> None:
    async with session(dsn) as other, other.transaction():
        await other.execute("insert into nodes values ('n', now())")
        await sql.execute(INSERT, 1)
        assert await versions(sql) == []
    assert await versions(sql) == [1]


async def test_the_newest_events_are_read_in_order(sql: Sql) -> None:
    await sql.executemany(INSERT, [(version,) for version in range(1, 8)])
    assert [event.version for event in await read_newest(sql, 3)] == [5, 6, 7]
    assert [event.version for event in await read_newest(sql, 9)] == [1, 2, 3, 4, 5, 6, 7]


async def test_only_positions_of_events_are_known(sql: Sql) -> None:
    await sql.execute(INSERT, 1)
    end = await read_end(sql)
    assert await is_known(sql, end)
    assert await is_known(sql, START)
    assert not await is_known(sql, end._replace(event_id=end.event_id + 1))
    assert not await is_known(sql, end._replace(xid=end.xid + 1))


async def test_who_is_far_behind_is_known(sql: Sql) -> None:
    await sql.executemany(INSERT, [(version,) for version in range(1, 11)])
    fourth = (await read_page(sql, START))[3].position
    assert await is_far(sql, fourth, 5)
    assert not await is_far(sql, fourth, 6)


async def test_who_holds_events_back_is_found(dsn: str, sql: Sql) -> None:
    assert await find_holder(sql) is None
    async with session(dsn) as other, other.transaction():
        await other.execute("set local application_name = 'a report'")
        await other.execute("select pg_current_xact_id()")
        holder = await find_holder(sql)
        assert holder is not None
        assert (holder["kind"], holder["application_name"]) == ("session", "a report")
        assert holder["id"] == str(other.get_server_pid())
        assert holder["seconds"] >= 0


async def test_empty_log_ends_where_it_starts(sql: Sql) -> None:
    assert await read_end(sql) == START
    assert not await is_behind(sql, START)


async def test_database_keeps_its_identity(dsn: str, sql: Sql) -> None:
    first = await identify(dsn)
    await claim(sql, ME, "c")
    before = await sql.fetch("select xid::text from call_events")
    assert await identify(dsn) == first
    assert await sql.fetch("select xid::text from call_events") == before
    assert await sql.fetchval("select count(*) from event_log") == 1


async def test_servers_that_start_at_once_agree_on_the_identity(dsn: str) -> None:
    assert len(set(await asyncio.gather(*(identify(dsn) for _ in range(5))))) == 1


async def test_identity_is_kept_when_others_write_while_a_server_starts(dsn: str, sql: Sql) -> None:
    first = await identify(dsn)
    async with session(dsn) as other:
        async with other.transaction():
            await other.execute("lock table event_log")
            starting = asyncio.create_task(identify(dsn))
            await until_waiting(sql)
            await claim(sql, ME, "c")
        assert await starting == first
    assert await sql.fetchval("select xid::text::int8 from call_events") > 0


@pytest.mark.parametrize(
    "restore",
    [
        "update event_log set system_identifier = system_identifier + 1",
        "update event_log set timeline = timeline + 1",
        "update event_log set place = '1/1'",
        "update call_events set xid = '1000000000' where version = 2",
    ],
    ids=["copied", "recovered to a point in time", "restored in place", "dumped and restored"],
)
async def test_restored_database_gets_a_new_identity_and_keeps_its_order(
    dsn: str, sql: Sql, restore: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = await identify(dsn)
    for version in (3, 1, 2):
        await sql.execute(INSERT, version)
    await sql.execute(restore)
    second = await identify(dsn)
    assert second != first
    assert "cursors start anew" in caplog.text
    assert [tuple(row) for row in await sql.fetch("select distinct xid::text from call_events")] == [("0",)]
    assert await versions(sql) == [3, 1, 2]
    await sql.execute(INSERT, 4)
    assert await versions(sql, Position(0, 3)) == [4]
    assert await identify(dsn) == second


async def test_long_log_may_take_its_time_to_start_anew(dsn: str, sql: Sql) -> None:
    """Longer than the statements and locks of our connections may take otherwise."""
    await identify(dsn)
    await sql.execute(INSERT, 1)
    await sql.execute("create table limits (statement text, lock text)")
    await sql.execute(
        "create function look() returns trigger language plpgsql as $$ begin"
        " insert into limits values (current_setting('statement_timeout'), current_setting('lock_timeout'));"
        " return new; end $$;"
        "create trigger look before update on call_events for each row execute function look();"
        "update event_log set timeline = 0"
    )
    await identify(dsn)
    assert [tuple(row) for row in await sql.fetch("select * from limits")] == [("0", "0")]
