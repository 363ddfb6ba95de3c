"""What benchmarks send is stored, and what they told can be drawn; no figure is judged."""

from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.acceptance.fixtures import Serve
from tests.acceptance.server import Server
from tests.benchmarks.body import post_lines
from tests.benchmarks.callers import CallersPlan
from tests.benchmarks.fairness import sending
from tests.benchmarks.histogram import Histogram
from tests.benchmarks.hostile import besetting, compare
from tests.benchmarks.load import Plan
from tests.benchmarks.loud import Kind, LoudPlan
from tests.benchmarks.metrics import count_packets
from tests.benchmarks.mischief import KINDS
from tests.benchmarks.processes import run_load
from tests.benchmarks.rabble import RabblePlan
from tests.benchmarks.report import Report
from tests.benchmarks.telephony import Scene
from tests.benchmarks.telephony import compare as compare_calls
from tests.scenes import Sql

STORED = "select count(*) from packets join calls using (call_no) where call_id like $1"


@pytest.mark.parametrize("kind", ["ndjson", "single"])
async def test_packets_of_a_loud_call_and_of_those_beside_it_are_stored(
    serve: Serve, sql: Sql, kind: Kind
) -> None:
    server = await serve()
    loud = LoudPlan(kind=kind, port=server.port, call_id="loud", connections=20)
    honest = Plan(
        port=server.port,
        pid=server.pid,
        prefix="honest",
        seconds=0.1,
        warm_up=0,
        rate=100,
        connections=5,
        calls=5,
    )
    async with sending(loud) as heard:
        result = await run_load(honest)
    told = await heard
    assert (told.others, result.others) == ({}, {})
    assert await sql.fetchval(STORED, "loud") == told.stored > 0
    assert await sql.fetchval(STORED, "honest-%") == result.accepted > 0


async def test_what_was_acknowledged_beside_hostile_clients_is_stored(serve: Serve, dsn: str) -> None:
    server = await serve()
    honest = Plan(
        port=server.port,
        pid=server.pid,
        prefix="honest",
        seconds=0.5,
        warm_up=0,
        rate=100,
        connections=5,
        calls=5,
        tells_calls=True,
    )
    rabble = RabblePlan(port=server.port, kinds=tuple(KINDS), share=0.1)
    async with besetting(rabble) as told:
        result = await run_load(honest)
    did = await told
    assert all(deeds.connections and deeds.cpu for deeds in did.deeds.values())
    assert all(deeds.sent for kind, deeds in did.deeds.items() if kind != "silent")
    assert did.deeds["floods"].answers.keys() <= {"400", "401", "403", "404", "405", "422"}
    kept = await compare(dsn, result.accepted_by_call)
    assert kept == (result.accepted, result.accepted, result.accepted)
    lacking = await compare(dsn, result.accepted_by_call | {"honest-0": 1_000, "nobody": 7})
    assert lacking.lost == 1_000 - result.accepted_by_call["honest-0"] + 7


async def test_lines_of_a_long_body_are_stored(serve: Serve, sql: Sql) -> None:
    server = await serve()
    assert await post_lines(server.port, 100) == 100
    assert await sql.fetchval(STORED, "body") == 100


async def test_messages_of_telephony_legs_are_stored_and_measured(dsn: str, tmp_path: Path) -> None:
    report = tmp_path / "report"
    extra = {"MEASURED_REPORT": str(report), "PYTHONPATH": str(Path(__file__).parents[2])}
    async with Server(tmp_path, dsn=dsn, module="tests.benchmarks.measured", extra=extra) as server:
        scene = Scene(server.port, server.pid, dsn, report)
        first, second = await scene.run(5, 0.4), await scene.run(3, 0.4)
    for step in (first, second):
        kept, called = step.kept, step.called
        assert (called.failed, step.unstored) == ({}, 0)
        assert kept == (sum(called.sent.values()), 0, 0)
        assert step.acks["count"] == kept.sent
        assert step.lags["count"] > 0 < called.busy
        assert 0 < step.acks["p50"] <= step.acks["p99"] <= step.acks["max"]
    assert first.kept.sent > second.kept.sent > 3 * 20


async def test_messages_of_telephony_legs_that_are_missing_or_others_are_found(
    serve: Serve, dsn: str
) -> None:
    server = await serve()
    plan = CallersPlan(port=server.port, pid=server.pid, run="a run", legs=2, seconds=1.0)
    one, other = (plan.make_ids(number) for number in range(2))
    packet = {"sequence": 1, "data": "of another", "timestamp": 0.0, "stream": one.stream}
    async with (
        ClientSession() as session,
        session.post(f"{server.url}/v1/call/stream/{one.call}", json=packet) as response,
    ):
        assert response.status == 202
    assert await compare_calls(dsn, plan, {one.call: 3, other.call: 4}, patience=0.0) == (7, 6, 2)


def test_what_counting_costs_is_measured() -> None:
    assert count_packets() > 0


def test_times_are_told_as_no_less_than_they_were() -> None:
    histogram = Histogram()
    for number in range(1, 100):
        histogram.add(number / 1_000 + 0.00005, times=2)
    histogram.add(100.0)
    histogram.add(0.0)
    told = histogram.read().to_json()
    assert told == {"count": 200, "p50": 50.1, "p99": 99.1, "max": 100_000.0}
    histogram.clear()
    assert histogram.read().to_json() == {"count": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}


def test_what_was_told_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from tests.benchmarks.plots import draw  # noqa: PLC0415

    costs = {"packet": {"buffers": 7.0}}
    parts = {"ratio_of_rounds": [0.8, 0.9], "series": {"calls": {"1": costs, "2": costs}}}
    report = Report(name="growth", ratio=0.9, wanted=1.2, is_limit=True, problems=[], lines=[], parts=parts)
    drawn = draw([report.told], tmp_path, title="a title")
    assert [path.name for path in drawn] == [f"performance-{n}.svg" for n in ("ratios", "rounds", "growth")]
    assert all("a title" in path.read_text() for path in drawn)
