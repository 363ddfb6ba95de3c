"""The server is killed and started again: what was acknowledged is there, and every completed call ends."""

from datetime import timedelta

from tests.acceptance.client import Client
from tests.acceptance.fixtures import Check, Connect, Serve
from tests.acceptance.history import Sql
from tests.acceptance.server import Settings
from tests.acceptance.waiting import eventually

ATTEMPTS = """
select detail->>'phase' || ' ' || attempt as phase, at from call_events
where call_id = $1 and kind = 'attempt' order by version
"""


async def read_attempts(sql: Sql, call_id: str) -> list[str]:
    return [row["phase"] for row in await sql.fetch(ATTEMPTS, call_id)]


async def wait_for_attempt(sql: Sql, call_id: str, phase: str) -> None:
    async def is_there() -> bool:
        return phase in await read_attempts(sql, call_id)

    await eventually(is_there)


async def wait_for_state(client: Client, call_id: str, state: str) -> None:
    async def is_there() -> bool:
        return bool((await client.call(call_id))["state"] == state)

    await eventually(is_there)


async def test_call_in_progress_goes_on_after_a_crash(
    serve: Serve, connect: Connect, check_calls: Check
) -> None:
    server = await serve()
    client = connect(server)
    for sequence in (1, 2, 5, 9):
        await client.send("c", sequence)
    await client.send("c", 2, stream="b")
    await server.restart()
    told = await client.call("c")
    assert (told["state"], told["packets"]) == ("IN_PROGRESS", 5)
    assert told["streams"] == {
        "": {"highest": 9, "missing": [[3, 4], [6, 8]], "missing_count": 5, "packets": 4},
        "b": {"highest": 2, "missing": [[1, 1]], "missing_count": 1, "packets": 1},
    }
    repeat, late = await client.send("c", 5), await client.send("c", 4)
    assert (repeat.body["duplicate"], repeat.body["total_received"]) == (True, 5)
    assert (late.body["late"], late.body["total_received"]) == (True, 6)
    assert late.body["missing_sequences"] == [[3, 3], [6, 8]]
    await client.complete("c")
    await wait_for_state(client, "c", "ARCHIVED")
    await check_calls(client)


async def test_attempt_that_ran_in_a_crash_counts_and_the_next_one_follows(
    serve: Serve, connect: Connect, check_calls: Check, sql: Sql
) -> None:
    server = await serve(flaky_latency_min=60, flaky_latency_max=60)
    client = connect(server)
    await client.send("c", 1)
    await client.complete("c")
    await wait_for_attempt(sql, "c", "started 1")
    await server.restart()
    await wait_for_attempt(sql, "c", "started 2")
    await server.restart({"flaky_latency_min": 0, "flaky_latency_max": 0})
    await wait_for_state(client, "c", "ARCHIVED")
    phases = ["started 1", "failed 1", "started 2", "failed 2", "started 3", "succeeded 3"]
    assert await read_attempts(sql, "c") == phases
    await check_calls(client)


async def test_crash_in_the_last_attempt_fails_the_call(
    serve: Serve, connect: Connect, check_calls: Check, sql: Sql
) -> None:
    server = await serve(flaky_latency_min=60, flaky_latency_max=60, max_attempts=1)
    client = connect(server)
    await client.send("c", 1)
    await client.complete("c")
    await wait_for_attempt(sql, "c", "started 1")
    await server.restart()
    await wait_for_state(client, "c", "FAILED")
    assert await read_attempts(sql, "c") == ["started 1", "failed 1"]
    await check_calls(client)


async def test_wait_for_a_retry_goes_on_where_it_was_after_a_crash(
    serve: Serve, connect: Connect, check_calls: Check, sql: Sql
) -> None:
    server = await serve(flaky_failure_rate=1, retry_initial=3)
    client = connect(server)
    await client.send("c", 1)
    await client.complete("c")
    await wait_for_attempt(sql, "c", "failed 1")
    await server.restart({"flaky_failure_rate": 0, "retry_initial": 0.05})
    await wait_for_state(client, "c", "ARCHIVED")
    assert await read_attempts(sql, "c") == ["started 1", "failed 1", "started 2", "succeeded 2"]
    failed_at, again_at = (row["at"] for row in (await sql.fetch(ATTEMPTS, "c"))[1:3])
    assert again_at - failed_at >= timedelta(seconds=2.9)
    await check_calls(client)


STAGES: list[tuple[str, str, Settings]] = [
    ("failed", "FAILED", {"flaky_failure_rate": 1, "retry_initial": 0.01}),
    ("archived", "ARCHIVED", {"flaky_failure_rate": 0}),
    ("waiting", "PROCESSING_AI", {"flaky_failure_rate": 1, "retry_initial": 2}),
    ("attempting", "PROCESSING_AI", {"flaky_latency_min": 60, "flaky_latency_max": 60}),
    ("grace", "COMPLETED", {"grace": 2}),
]
THREE = range(3)


async def bring_into(client: Client, sql: Sql, stage: str, state: str) -> None:
    """Make three calls named after *stage*, complete them, and return when they are there."""
    for call_id in (f"{stage}-{n}" for n in THREE):
        for sequence in (1, 2, 4):
            await client.send(call_id, sequence)
        await client.complete(call_id)
    for call_id in (f"{stage}-{n}" for n in THREE):
        await wait_for_state(client, call_id, state)
        if stage == "waiting":
            await wait_for_attempt(sql, call_id, "failed 1")


async def test_crash_with_calls_in_every_state_ends_them_all(
    serve: Serve, connect: Connect, check_calls: Check, sql: Sql
) -> None:
    server = await serve()
    client = connect(server)
    for n in THREE:
        await client.send(f"live-{n}", 1)
    for stage, state, settings in STAGES:
        await server.restart(settings)
        await bring_into(client, sql, stage, state)
    ended = [f"{stage}-{n}" for stage in ("failed", "archived") for n in THREE]
    before = [await client.call(call_id) for call_id in ended]
    await server.restart({"flaky_failure_rate": 0, "flaky_latency_min": 0, "flaky_latency_max": 0})
    for n in THREE:
        await wait_for_state(client, f"live-{n}", "IN_PROGRESS")
        await client.complete(f"live-{n}")
    for stage in ("live", "waiting", "attempting", "grace"):
        for n in THREE:
            await wait_for_state(client, f"{stage}-{n}", "ARCHIVED")
    assert [await client.call(call_id) for call_id in ended] == before
    report = await check_calls(client)
    assert (report.archived, report.failed) == (15, 3)
