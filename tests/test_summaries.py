"""Call summaries, and the walks that a snapshot is made of."""

import pytest

from callactors.facts import Change, Facts, Row
from callactors.sequence import StreamSequence
from callactors.states import CallState
from callactors.store.flush import CallChanges, flush
from callactors.store.summaries import Place, Summary, read_ended, read_live
from tests.storage import ME, Sql, claim, reader, rows_read

LIVE = "insert into calls (call_id, started_at) values ($1, $2::text::timestamptz)"
ENDED = """
insert into calls (call_id, version, state, completed_at, finished_at)
values ($1, 4, 'ARCHIVED', $2::text::timestamptz, $2::text::timestamptz)
"""


async def live_ids(sql: Sql, after: Place | None = None, limit: int = 100) -> list[str]:
    return [summary["call_id"] for _, summary in await read_live(sql, after, limit)]


async def only(sql: Sql) -> Summary:
    [(_, summary)] = await read_live(sql, None, 100)
    return summary


async def test_a_summary_tells_what_is_in_the_row(sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    streams = {"": StreamSequence(8, ((0, 0), (3, 4))), "b": StreamSequence(4, ((0, 1),))}
    row = Row(Facts(version=1), streams, packets=7, late=2, duplicates=3)
    await flush(sql, ME, [CallChanges(claimed.call_no, "c", claimed.epoch, [Change(row=row)])])
    await sql.execute(
        "update calls set started_at = '2026-11-24 03:52:23.1204+00', last_packet_at = '2026-11-24 05:00+01'"
    )
    assert await only(sql) == {
        "call_id": "c",
        "state": "IN_PROGRESS",
        "version": 1,
        "generation": 1,
        "attempt": 0,
        "attempt_running": False,
        "next_attempt_at": None,
        "end_reason": None,
        "crashes": 0,
        "packets": 7,
        "late": 2,
        "duplicates": 3,
        "missing_count": 3,
        "has_gaps": True,
        "started_at": "2026-11-24T03:52:23.120Z",
        "last_packet_at": "2026-11-24T04:00:00.000Z",
        "completed_at": None,
        "finished_at": None,
    }


async def test_a_sequence_0_that_never_came_is_no_gap(sql: Sql) -> None:
    await sql.execute(
        "insert into calls (call_id, packets, streams) values ('c', 1, $1)",
        '{"": {"last": 1, "missing": [[0, 0]]}}',
    )
    summary = await only(sql)
    assert (summary["missing_count"], summary["has_gaps"]) == (0, False)


@pytest.mark.parametrize(
    ("state", "is_running", "is_told"),
    [
        (CallState.PROCESSING_AI, False, True),
        (CallState.PROCESSING_AI, True, False),
        (CallState.COMPLETED, False, False),
    ],
)
async def test_only_a_call_that_waits_for_a_retry_has_a_next_attempt(
    sql: Sql, state: str, is_running: bool, is_told: bool
) -> None:
    await sql.execute(
        "insert into calls (call_id, version, state, attempt_running, wake_at)"
        " values ('c', 4, $1, $2, '2026-11-24 03:00+00')",
        state,
        is_running,
    )
    told = "2026-11-24T03:00:00.000Z" if is_told else None
    assert (await only(sql))["next_attempt_at"] == told


async def test_live_calls_come_by_their_start_in_pages_without_those_that_ended(sql: Sql) -> None:
    for call_id, started_at in (
        ("b", "2026-01-02"),
        ("a", "2026-01-01"),
        ("d", "2026-01-02"),
        ("c", "2026-01-03"),
    ):
        await sql.execute(LIVE, call_id, started_at)
    await sql.execute(ENDED, "e", "2026-01-01")
    assert await live_ids(sql) == ["a", "b", "d", "c"]
    found: list[str] = []
    after: Place | None = None
    while page := await read_live(sql, after, 1):
        found += [summary["call_id"] for _, summary in page]
        after = page[-1][0]
    assert found == ["a", "b", "d", "c"]


async def test_a_call_that_ends_while_pages_are_read_takes_no_other_with_it(sql: Sql) -> None:
    for call_id in ("a", "b", "c"):
        await sql.execute(LIVE, call_id, "2026-01-01")
    [_, (second, _)] = await read_live(sql, None, 2)
    await sql.execute("update calls set finished_at = now() where call_id <> 'c'")
    assert await live_ids(sql, second) == ["c"]


async def test_a_call_that_vanishes_while_pages_are_read_makes_no_reader_begin_anew(sql: Sql) -> None:
    for call_id in ("a", "b", "c"):
        await sql.execute(LIVE, call_id, "2026-01-01")
        await sql.execute(ENDED, f"ended-{call_id}", "2026-01-01")
    [_, (live, _)] = await read_live(sql, None, 2)
    [_, (ended, _)] = await read_ended(sql, None, 2)
    await sql.execute("delete from calls where call_id in ('b', 'ended-b')")
    assert await live_ids(sql, live) == ["c"]
    assert [summary["call_id"] for _, summary in await read_ended(sql, ended, 9)] == ["ended-a"]


async def test_ended_calls_come_newest_first_in_pages(sql: Sql) -> None:
    for call_id, ended_at in (("b", "2026-01-02"), ("a", "2026-01-01"), ("c", "2026-01-03")):
        await sql.execute(ENDED, call_id, ended_at)
    await sql.execute(LIVE, "d", "2026-01-04")
    newest = await read_ended(sql, None, 2)
    assert [summary["call_id"] for _, summary in newest] == ["c", "b"]
    assert [summary["call_id"] for _, summary in await read_ended(sql, newest[-1][0], 2)] == ["a"]
    assert [summary["state"] for _, summary in await read_ended(sql, None, 9)] == ["ARCHIVED"] * 3


async def test_a_snapshot_reads_what_it_tells_also_with_plans_of_empty_tables(dsn: str) -> None:
    async with reader(dsn) as own:
        await own.execute("alter table calls set (autovacuum_enabled = off)")
        for _ in range(12):
            await read_live(own, None, 10)
            await read_ended(own, None, 10)
        await own.execute(
            "insert into calls (call_id, state, finished_at) select 'e' || g, 'ARCHIVED', now()"
            " from generate_series(1, 50000) g"
        )
        await own.execute("insert into calls (call_id) select 'l' || g from generate_series(1, 20) g")
        before = await rows_read(own)
        assert len(await read_live(own, None, 10)) == 10
        [*_, (number, _)] = await read_ended(own, None, 10)
        assert len(await read_ended(own, number, 10)) == 10
        assert await rows_read(own) - before < 50
