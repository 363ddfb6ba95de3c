"""Purging: what is old enough goes altogether, beside what lives, and whoever reads is not misled."""

import asyncio
import json
from datetime import timedelta
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors.errors import LogPurged, UnknownCall
from callactors.retention import Retention, purge
from callactors.settings import read_settings
from callactors.store import erasure, events
from callactors.store import purge as batches
from callactors.store.events import Cursor
from callactors.system import CallSystem
from callactors.web.keys import SYSTEM
from tests.scenes import COMPLETE, make_app, packet, running, until, until_state
from tests.storage import Sql, locked, session, until_true, until_waiting

Client: TypeAlias = "TestClient[web.Request, web.Application]"
HOUR = timedelta(hours=1)
LARGE = "x" * 100_000
OLD = """
with made as (
    insert into calls (call_id, state, version, packets, finished_at)
    select 'old' || lpad(g::text, 4, '0'), 'ARCHIVED', 2, $2, now() - interval '2 h' + g * interval '1 s'
    from generate_series(1, $1) g returning call_no, call_id
), told as (
    insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)
    select m.call_no, g, m.call_id, 'transition', 'ARCHIVED', 0, '{}' from made m, generate_series(1, 2) g
)
insert into packets select m.call_no, g, 1, now(), '', 'x' from made m, generate_series(1, $2) g
"""
FULL = """
create function no_room() returns trigger language plpgsql as $$
begin
    raise exception 'no room for another page' using errcode = 'disk_full';
end
$$;
create trigger no_room before insert or update on calls execute function no_room();
create trigger no_room before insert or update on call_events execute function no_room();
"""
COUNTS = """
select (select count(*) from calls), (select count(*) from packets), (select count(*) from call_events)
"""


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn))


async def make_old(sql: Sql, calls: int, packets: int = 2) -> None:
    """Make *calls* that ended about two hours ago, the first the longest."""
    await sql.execute(OLD, calls, packets)


async def counts(sql: Sql) -> tuple[int, ...]:
    """Calls, packets and events that there are."""
    return tuple(await sql.fetchrow(COUNTS) or ())


def read_from_the_log(system: CallSystem) -> None:
    """Let the feed have no events in memory."""
    system.feed._recent.clear()
    system.feed._recent_after = events.Position(2**62, 0)


async def test_what_ended_long_ago_goes_altogether_and_nothing_else(dsn: str, sql: Sql) -> None:
    await make_old(sql, 3)
    async with running(dsn) as system:
        for call_id in ("live", "ended"):
            await system.accept(call_id, packet(1))
        await system.complete("ended", COMPLETE)
        await until_state(sql, "ended", "ARCHIVED")
        assert await purge(sql, older_than=HOUR) == 3
        with pytest.raises(UnknownCall):
            await system.read("old0001")
    assert [r["call_id"] for r in await sql.fetch("select call_id from calls order by 1")] == [
        "ended",
        "live",
    ]
    assert await counts(sql) == (2, 2, 7)
    assert await purge(sql, older_than=HOUR) == 0


async def test_it_goes_in_batches_the_oldest_first(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CALLS", 4)
    await make_old(sql, 10)
    horizon = await batches.read_horizon(sql, HOUR)
    first = await batches.purge_batch(sql, horizon, batches.FIRST)
    assert (first.purged, first.to_scrub) == (4, [])
    left = [r["call_id"] for r in await sql.fetch("select call_id from calls order by 1")]
    assert left == [f"old{n:04}" for n in range(5, 11)]
    assert await purge(sql, older_than=HOUR) == 6
    assert await counts(sql) == (0, 0, 0)


async def test_a_batch_has_few_packets_and_large_calls_have_batches_of_their_own(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PACKETS", 10)
    monkeypatch.setattr(erasure, "BATCH", 10)
    await make_old(sql, 3, 4)
    await sql.execute("insert into packets select 2, g, 1, now(), 'b', 'x' from generate_series(1, 55) g")
    await sql.execute("update calls set packets = 59 where call_no = 2")
    horizon, found = await batches.read_horizon(sql, HOUR), []
    place = batches.FIRST
    for _ in range(2):
        batch = await batches.purge_batch(sql, horizon, place)
        assert batch.next is not None
        place = batch.next
        found.append((batch.purged, batch.to_scrub, await sql.fetchval("select count(*) from packets")))
    assert found == [(1, [], 63), (0, [2], 53)]
    assert place == (
        await sql.fetchval("select finished_at - interval '1 s' from calls where call_no = 2"),
        1,
    )
    assert tuple(
        await sql.fetchrow("select erased_at = finished_at, owner from calls where call_no = 2") or ()
    ) == (
        True,
        None,
    )
    assert await erasure.scrub(lambda work: work(sql), 2)  # as the next server that starts would do
    assert await purge(sql, older_than=HOUR) == 2
    assert await counts(sql) == (0, 0, 0)


async def test_a_call_with_more_packets_than_its_row_says_goes_too(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PACKETS", 10)
    await make_old(sql, 3, 25)
    await sql.execute("update calls set packets = 0")
    assert await purge(sql, older_than=HOUR) == 3
    assert await counts(sql) == (0, 0, 0)


async def test_a_full_disk_has_no_room_for_a_mark_and_all_goes_nevertheless(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PACKETS", 10)
    await make_old(sql, 3, 25)
    await sql.execute(FULL)
    assert await purge(sql, older_than=HOUR) == 3
    assert await counts(sql) == (0, 0, 0)


async def test_several_purge_at_once_beside_live_traffic(dsn: str, sql: Sql) -> None:
    await make_old(sql, 500, 5)
    async with running(dsn) as system, session(dsn) as first, session(dsn) as second:
        is_over = False

        async def send(call_id: str) -> int:
            sequence = 0
            while not is_over:
                sequence += 1
                await system.accept(call_id, packet(sequence))
            return sequence

        senders = [asyncio.create_task(send(f"live{n}")) for n in range(4)]
        found = await asyncio.gather(*(purge(c, older_than=HOUR) for c in (first, second)))
        is_over = True
        sent = await asyncio.gather(*senders)
    assert sum(found) == 500
    assert all(sent)
    assert await counts(sql) == (4, sum(sent), 4)


async def test_a_call_whose_row_others_hold_is_left_to_the_next_time(dsn: str, sql: Sql) -> None:
    await make_old(sql, 3)
    async with locked(dsn, "old0002"):
        assert await purge(sql, older_than=HOUR) == 2
    assert await purge(sql, older_than=HOUR) == 1


async def test_what_the_feeds_cannot_have_read_yet_stays(dsn: str, sql: Sql) -> None:
    async with session(dsn) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select pg_current_xact_id()")
        await make_old(sql, 2)
        assert await purge(sql, older_than=HOUR) == 0
        await transaction.rollback()
    assert await purge(sql, older_than=HOUR) == 2


async def test_a_tombstone_is_kept_as_long_as_a_call_counted_from_the_erasure(sql: Sql) -> None:
    await make_old(sql, 2)
    for call_no, call_id in ((1, "old0001"), (2, "old0002")):
        await erasure.erase(sql, call_id, "admin")
        if call_no == 1:
            assert await erasure.scrub(lambda work: work(sql), call_no)
    assert await purge(sql, older_than=HOUR) == 0
    await sql.execute("update calls set erased_at = now() - interval '2 h'")
    assert await purge(sql, older_than=HOUR) == 1  # the other is not scrubbed yet
    assert await sql.fetchval("select call_id from calls") == "old0002"


async def test_the_id_of_a_purged_call_is_free_again_also_where_it_was_resident(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "ARCHIVED")
        assert (await system.accept("c", packet(1))).is_duplicate  # its actor is in memory
        await sql.execute("update calls set finished_at = now() - interval '2 h'")
        await until(
            sql, "select xid < pg_snapshot_xmin(pg_current_snapshot()) from call_events limit 1", True
        )
        assert await purge(sql, older_than=HOUR) == 1
        with pytest.raises(UnknownCall):
            await system.complete("c", COMPLETE)
        assert (await system.accept("c", packet(1))).total_received == 1
        assert (await system.read("c")).call.facts.state == "IN_PROGRESS"


async def test_a_packet_that_comes_in_the_moment_of_the_purge_begins_a_new_call(dsn: str, sql: Sql) -> None:
    await make_old(sql, 1)
    async with running(dsn) as system, session(dsn) as other:
        async with other.transaction():
            horizon = await batches.read_horizon(other, HOUR)
            assert (await batches.purge_batch(other, horizon, batches.FIRST)).purged == 1
            accepting = asyncio.ensure_future(system.accept("old0001", packet(7)))
            await until_waiting(sql)
        assert (await accepting).total_received == 1


async def test_a_supervisor_whose_cursor_is_before_the_purged_events_is_told_of_the_gap(
    client: Client, sql: Sql
) -> None:
    system = client.app[SYSTEM]
    await system.accept("kept", packet(1))
    await until(sql, "select count(*) from call_events", 1)
    await make_old(sql, 2)
    await system.accept("new", packet(1))
    cursors = [
        str(Cursor(system.feed.cursor.log_id, events.Position(r["xid"], r["event_id"])))
        for r in await sql.fetch("select xid::text::int8 as xid, event_id from call_events order by event_id")
    ]
    assert await purge(sql, older_than=HOUR) == 2
    read_from_the_log(system)
    told = [await first_frame(client, cursor) for cursor in cursors]
    reasons = [frame.get("reason", frame["type"]) for frame in told]
    assert reasons == [*["expired"] * 4, "event", "bookmark"]


async def first_frame(client: Client, cursor: str) -> Any:
    async with client.ws_connect("/ws/supervisor", params={"since": cursor}) as ws:
        return json.loads((await ws.receive()).data)


async def test_a_reader_that_the_purge_overtakes_is_told_instead_of_skipping(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = client.app[SYSTEM]
    await make_old(sql, 5)
    await until(sql, "select count(*) from call_events", 10)
    monkeypatch.setattr(events, "PAGE", 4)
    read_from_the_log(system)
    reading = system.feed.read(events.START)
    seen = [await anext(reading) for _ in range(4)]
    assert await purge(sql, older_than=HOUR) == 5
    with pytest.raises(LogPurged):
        await anext(reading)
    assert [event.logged.call_id for event in seen] == [f"old000{n}" for n in range(1, 5)]


async def test_a_slow_supervisor_that_the_purge_overtakes_gets_a_gap_and_a_snapshot(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = client.app[SYSTEM]
    await system.accept("kept", packet(1))
    await make_old(sql, 200)
    await sql.execute(
        "update call_events set detail = $1 where call_id <> 'kept'", json.dumps({"note": LARGE})
    )
    await until_true(lambda: len(system.feed._recent) == 401)
    kept = system.feed._recent[0]
    monkeypatch.setattr(events, "PAGE", 10)
    read_from_the_log(system)
    query = {"since": str(Cursor(system.feed.cursor.log_id, kept.position))}
    async with client.ws_connect("/ws/supervisor", params=query, max_msg_size=0) as ws:
        transport = ws._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()  # type: ignore[union-attr]
        await until_true(lambda: is_waiting_for_its_reader(client))
        assert await purge(sql, older_than=HOUR) == 200
        transport.resume_reading()  # type: ignore[union-attr]
        kinds = [(await ws.receive_json())["type"]]
        while kinds[-1] != "bookmark":
            kinds.append((await ws.receive_json())["type"])
    assert 0 < kinds.index("gap") < 400
    assert kinds[kinds.index("gap") :] == ["gap", "snapshot", "snapshot", "bookmark"]


def is_waiting_for_its_reader(client: Client) -> bool:
    runner = client.server.runner
    assert runner is not None
    assert runner.server is not None
    transports = [connection.transport for connection in runner.server.connections]
    return any(t is not None and t.get_write_buffer_size() > 256 * 1024 for t in transports)


async def test_a_server_that_starts_on_a_purged_log_takes_its_own_cursors_back(dsn: str, sql: Sql) -> None:
    log_id = await events.identify(dsn)
    await make_old(sql, 2)
    assert await purge(sql, older_than=HOUR) == 2
    async with running(dsn) as system:
        assert system.feed.cursor.log_id == log_id
        assert system.feed.cursor.position > events.START
        assert await system.feed.find_gap(system.feed.cursor) is None
        assert await system.feed.find_gap(system.feed.cursor._replace(position=events.START)) == "expired"


async def test_a_server_purges_by_itself_and_says_so(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "callactors.retention")
    await make_old(sql, 3)
    async with running(dsn, retention=HOUR):
        await until(sql, "select count(*) from calls", 0)
    assert "calls that ended more than 1:00:00 ago are purged" in caplog.messages


async def test_without_a_retention_all_is_kept(dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "callactors.retention")
    await make_old(sql, 1)
    async with running(dsn) as system:
        await system.accept("c", packet(1))
    assert "calls are kept for ever" in caplog.messages
    assert await sql.fetchval("select count(*) from calls") == 2


async def test_the_retention_purges_again_and_again(dsn: str, sql: Sql) -> None:
    retention = Retention(dsn, timedelta(seconds=0.05))
    run = asyncio.create_task(retention.run())
    for days in (1, 2):  # the second is behind the first, where a run that goes on does not look
        async with sql.transaction():
            await make_old(sql, 1)
            await sql.execute("update calls set finished_at = now() - make_interval(days => $1)", days)
        await until(sql, "select count(*) from calls", 0)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    retention.close()


@pytest.mark.parametrize(
    ("text", "keep"),
    [("90d", timedelta(days=90)), ("45s", timedelta(seconds=45)), ("", None)],
)
def test_the_setting_is_a_duration(
    monkeypatch: pytest.MonkeyPatch, text: str, keep: timedelta | None
) -> None:
    monkeypatch.setenv("CALLACTORS_RETENTION", text)
    assert read_settings({}).retention == keep
