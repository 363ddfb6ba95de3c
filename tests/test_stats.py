"""`GET /v1/stats`: what the figures count, and how seldom they are made."""

import asyncio
import json
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from callactors.errors import StorageUnavailable
from callactors.store import stats
from callactors.store.connection import close_pool, open_pool
from callactors.store.stats import Stats, read_stats
from tests.proxy import proxy_to
from tests.scenes import make_app, packet, running, until, until_state
from tests.storage import Sql, reader, rows_read, session

CALLS = """
insert into calls (call_id, version, state, attempt_running, finished_at)
select $1 || g, 4, $2, $3, now() - make_interval(mins => $4) from generate_series(1, $5::int) g
"""
EVENTS = """
insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail, at) values
    ($1, 4, 'c', 'attempt', 'PROCESSING_AI', 1, '{"phase": "started"}', '2026-11-24 03:00+00'),
    ($1, 5, 'c', 'attempt', 'PROCESSING_AI', 1, json_build_object('phase', $2::text),
        timestamptz '2026-11-24 03:00+00' + make_interval(secs => $3))
"""


async def test_nothing_is_counted_in_an_empty_database(sql: Sql) -> None:
    figures = await read_stats(sql)
    assert figures.pop("at").endswith("Z")
    assert figures == {
        "states": {"IN_PROGRESS": 0, "COMPLETED": 0, "PROCESSING_AI": 0},
        "ended": {"ARCHIVED": 0, "FAILED": 0},
        "ended_is_bounded": False,
        "retrying": 0,
        "failed_last_hour": 0,
        "packets_per_second": 0.0,
        "attempt_seconds": {"p50": None, "p95": None, "attempts": 0},
    }


async def test_live_calls_are_counted_by_state_and_ended_ones_of_the_last_hour(sql: Sql) -> None:
    for call in (
        ("a", "IN_PROGRESS", False, None, 3),
        ("b", "COMPLETED", False, None, 2),
        ("c", "PROCESSING_AI", True, None, 4),
        ("d", "PROCESSING_AI", False, None, 1),
        ("e", "ARCHIVED", False, 59, 5),
        ("f", "FAILED", False, 1, 2),
        ("g", "FAILED", False, 61, 9),
    ):
        await sql.execute(CALLS, *call)
    figures = await read_stats(sql)
    assert figures["states"] == {"IN_PROGRESS": 3, "COMPLETED": 2, "PROCESSING_AI": 5}
    assert figures["ended"] == {"ARCHIVED": 5, "FAILED": 2}
    assert (figures["retrying"], figures["failed_last_hour"]) == (1, 2)


async def test_attempts_are_timed_from_start_to_outcome(sql: Sql) -> None:
    for number, seconds in enumerate((1.0, 2.0, 3.0, 4.0, 5.0)):
        await sql.execute(EVENTS, number, "failed" if number % 2 else "succeeded", seconds)
    await sql.execute(EVENTS, 5, "given back", 1000.0)
    figures = await read_stats(sql)
    assert figures["attempt_seconds"] == {"p50": 3.0, "p95": pytest.approx(4.8), "attempts": 5}


async def test_packets_per_second_are_those_of_the_living_nodes(sql: Sql) -> None:
    for name, age, rate in (("a/1", 0, 10.5), ("b/1", 1, 20.25), ("dead/1", 4, 100.0)):
        await sql.execute(
            "insert into nodes values ($1, clock_timestamp() - make_interval(secs => $2), $3)",
            name,
            age,
            rate,
        )
    assert (await read_stats(sql))["packets_per_second"] == 30.8


async def test_a_node_tells_how_many_packets_it_stores(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        for sequence in (1, 2, 2, 3):
            await system.accept("c", packet(sequence))
        assert system._journal.packets == 3
        await until(sql, "select packet_rate > 0 from nodes", True)


async def test_only_so_much_is_looked_at(dsn: str, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = stats.ENDED_BOUND
    await sql.execute(CALLS, "e", "ARCHIVED", False, 1, bound + 20_000)
    await sql.execute(
        "insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)"
        " select g, v, 'c', 'attempt', 'PROCESSING_AI', 1,"
        " json_build_object('phase', case v when 1 then 'started' else 'failed' end)"
        " from generate_series(1, 10000) g, generate_series(1, 2) v order by g, v"
    )
    async with reader(dsn, mode="force_generic_plan") as own:
        before = await rows_read(own)
        figures = await read_stats(own)
        assert await rows_read(own) - before <= bound + 2 * stats.EVENTS_BOUND
    assert (figures["ended"]["ARCHIVED"], figures["ended_is_bounded"]) == (bound, True)
    assert figures["attempt_seconds"]["attempts"] == stats.EVENTS_BOUND // 2


async def test_who_asks_together_shares_one_reading(dsn: str, sql: Sql) -> None:
    pool = await open_pool(dsn, size=5)
    desk = Stats(pool)
    async with session(dsn) as other, other.transaction():
        await other.execute("lock table nodes")
        asked = [asyncio.create_task(desk.read()) for _ in range(20)]
        await until(sql, "select count(*) from pg_stat_activity where wait_event_type = 'Lock'", 1)
        asked[0].cancel()
        assert pool.get_size() == 1
    first, *others = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert all(figures is others[0] for figures in others)
    assert await desk.read() is others[0]
    await desk.close()
    await close_pool(pool)


async def test_figures_are_made_anew_when_they_are_old(dsn: str) -> None:
    pool = await open_pool(dsn, size=5)
    desk = Stats(pool)
    first = await desk.read()
    assert await desk.read(max_age=60.0) is first is desk.latest
    assert await desk.read(max_age=0.0) is not first
    await desk.close()
    await close_pool(pool)


async def test_a_failure_is_shared_but_not_kept(dsn: str) -> None:
    async with proxy_to(dsn) as proxy:
        pool = await open_pool(proxy.dsn, size=5)
        desk = Stats(pool)
        proxy.refuse()
        failures = await asyncio.gather(*(desk.read() for _ in range(5)), return_exceptions=True)
        assert {type(failure) for failure in failures} == {StorageUnavailable}
        assert desk.latest is None
        await proxy.listen()
        assert (await desk.read())["retrying"] == 0
        await desk.close()
        await close_pool(pool)


async def test_the_figures_are_told_over_http(dsn: str, sql: Sql, aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app(dsn))
    await client.post("/v1/call/stream/c", json={"sequence": 1, "data": "x", "timestamp": 1})
    await client.post("/v1/call/complete/c")
    await until_state(sql, "c", "ARCHIVED")
    figures: dict[str, Any] = await (await client.get("/v1/stats")).json()
    assert figures["ended"] == {"ARCHIVED": 1, "FAILED": 0}
    assert figures["attempt_seconds"]["attempts"] == 1
    response = await client.get("/v1/stats?fresh=1")
    assert (response.status, json.loads(await response.text())["errors"][0]["pointer"]) == (422, "/fresh")
