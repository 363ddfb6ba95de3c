"""The harness's own server and provider break exactly what they are told to, and nothing else."""

import asyncio
import json
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession

from callactors.call_actor import MAX_FAILURES
from tests.acceptance.checker import check
from tests.acceptance.client import NO_ANSWER, Client, Reply
from tests.acceptance.history import Content, Key, Sql, read_stored
from tests.acceptance.server import QUICK, Server, find_faults
from tests.acceptance.supervisor import Supervisor
from tests.acceptance.waiting import eventually
from tests.faults.provider import Behaviour, Provider
from tests.faults.served import EXIT_CODE, FAILPOINTS
from tests.scenes import until, until_state

Break = Callable[..., Server]

ROOT: Final = Path(__file__).parents[2]
ATTEMPTS: Final = """
select detail->>'phase' || ' ' || attempt as phase, detail->>'reason' as reason from call_events
where call_id = $1 and kind = 'attempt' order by version
"""
CONNECTIONS: Final = """
select count(*) from pg_stat_activity where datname = current_database() and application_name = 'callactors'
"""
IDLE: Final = ("deliveries", "feed", "heartbeat", "keys", "scrubber", "sweeper")
"""What has a connection in an idle server."""
PASSES: Final = {
    "before_claim": 1,
    "after_claim": 1,
    "before_flush": 3,
    "after_flush": 2,
    "before_publish": 2,
    "after_publish": 1,
    "before_ai": 1,
    "after_ai": 1,
    "mid_snapshot": 1,
}
PATIENCE: Final = 1.0
POISON: Final = "poison"


@pytest.fixture
def broken(dsn: str, tmp_path: Path) -> Break:
    """Make a server on the test's database, with these FAULTS_ and settings; it is not started."""

    def make(faults: Mapping[str, str], **settings: str | float) -> Server:
        extra = {f"FAULTS_{name}": value for name, value in faults.items()} | {"PYTHONPATH": str(ROOT)}
        settings = {**QUICK, **settings}
        return Server(tmp_path, dsn=dsn, settings=settings, module="tests.faults.served", extra=extra)

    return make


async def check_calls(client: Client, sql: Sql) -> None:
    report = check(client.history, await read_stored(sql))
    assert not report.findings, f"\n{report.table()}"


async def send_call(client: Client) -> None:
    """Send a whole call, whatever happens, and ask for a snapshot once meanwhile."""
    await client.deliver("c", 1)
    with suppress(*NO_ANSWER):
        supervisor = await Supervisor(client).connect(snapshot="true")
        while (frame := await supervisor.next()) is not None and frame["type"] != "bookmark":
            pass
        await supervisor.close()
    await client.deliver("c", 2)
    await client.deliver("c", 3)
    await client.finish("c")


def test_each_failpoint_has_its_scene() -> None:
    assert PASSES.keys() == FAILPOINTS


@pytest.mark.parametrize(("name", "n"), PASSES.items())
async def test_server_that_ends_at_a_failpoint_ends_the_call_when_it_is_back(
    broken: Break, sql: Sql, name: str, n: int
) -> None:
    async with broken({"FAILPOINT": f"{name}:{n}"}) as server, Client(server) as client:
        async with asyncio.TaskGroup() as senders:
            senders.create_task(send_call(client))
            assert await server.wait() == EXIT_CODE
            del server.extra["FAULTS_FAILPOINT"]
            await server.start()
        await until_state(sql, "c", "ARCHIVED")
        await check_calls(client, sql)


async def test_failpoint_lets_the_passes_before_its_own_through(broken: Break, sql: Sql) -> None:
    async with broken({"FAILPOINT": "before_flush:3"}) as server, Client(server) as client:
        assert [(await client.send("c", sequence)).status for sequence in (1, 2)] == [202, 202]
        with pytest.raises(NO_ANSWER):
            await client.send("c", 3)
        assert await server.wait() == EXIT_CODE
        assert await sql.fetchval("select count(*) from packets") == 2


@pytest.mark.parametrize(
    ("failpoint", "extra"),
    [
        ("before_ai:1", 0),  # before the call out
        ("after_ai:1", 1),
        ("before_flush:3", 1),  # behind the answer, before its commit
        ("after_flush:3", 0),  # behind the commit, before the event is told
    ],
)
async def test_server_that_ends_around_an_attempt_asks_at_most_once_more(
    broken: Break, sql: Sql, failpoint: str, extra: int
) -> None:
    always = {"failure_rate": 0.0, "hang_rate": 0.0, "late_rate": 0.0}
    async with Provider(1, **always) as provider:
        faults = {"FAILPOINT": failpoint, "PROVIDER": provider.url}
        async with broken(faults, retry_initial=0.01) as server, Client(server) as client:
            supervisor = await Supervisor(client).connect(snapshot="true")
            await supervisor.wait_for_frame("bookmark")
            await client.deliver("c", 1)
            async with asyncio.TaskGroup() as completing:
                completing.create_task(client.finish("c", last_sequence={"": 1}))
                assert await server.wait() == EXIT_CODE
                del server.extra["FAULTS_FAILPOINT"]
                await server.start()
            await until_state(sql, "c", "ARCHIVED")
            await check_calls(client, sql)
            await supervisor.read_to_close()
            await supervisor.connect(since=supervisor.cursor)
            await supervisor.wait_for("ARCHIVED", "c")
            await supervisor.close()
        assert [request.idempotency_key for request in provider.requests] == ["c:1"] * (1 + extra)
        result = await sql.fetchval("select result from calls")
        assert json.loads(result)["token"] in {request.token for request in provider.requests}
    states = [event["state"] for event in supervisor.events]
    assert states == ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "ARCHIVED"]


def find_call(provider: Provider, behaviour: Behaviour) -> str:
    """Return a call whose first attempt gets *behaviour*, and the second one an answer."""
    wanted = (behaviour, Behaviour.ANSWER)
    calls = (f"{behaviour}-{n}" for n in count())
    return next(c for c in calls if (provider.choose(c, 1, 1), provider.choose(c, 1, 2)) == wanted)


async def read_attempts(sql: Sql, call_id: str) -> list[tuple[str, str | None]]:
    return [(row["phase"], row["reason"]) for row in await sql.fetch(ATTEMPTS, call_id)]


async def send_at_once(client: Client, *call_ids: str) -> None:
    for call_id in call_ids:
        await client.send(call_id, 1)
    for call_id in call_ids:
        await client.complete(call_id, last_sequence={"": 1})


async def test_provider_decides_what_becomes_of_the_attempts(broken: Break, sql: Sql) -> None:
    async with Provider(1, late=2 * PATIENCE) as provider:
        calls = {behaviour: find_call(provider, behaviour) for behaviour in Behaviour}
        server = broken({"PROVIDER": provider.url}, attempt_timeout=PATIENCE)
        async with server, Client(server) as client:
            await send_at_once(client, *calls.values())
            for call_id in calls.values():
                await until_state(sql, call_id, "ARCHIVED")
            await eventually(lambda: has_tokens(provider, calls[Behaviour.LATE], 2))
            await check_calls(client, sql)
    reasons = dict.fromkeys(Behaviour, f"no answer within {PATIENCE:g} s")
    reasons[Behaviour.FAIL] = "the provider answered 502"
    for behaviour, call_id in calls.items():
        failed = [("started 1", None), ("failed 1", reasons[behaviour]), ("started 2", None)]
        expected = [("started 1", None)] if behaviour is Behaviour.ANSWER else failed
        *attempts, last = await read_attempts(sql, call_id)
        assert attempts == expected
        assert last[0].startswith("succeeded")
        requests = [request for request in provider.requests if request.call_id == call_id]
        assert {request.idempotency_key for request in requests} == {f"{call_id}:1"}
        assert [request.attempt for request in requests] == list(range(1, len(attempts) // 2 + 2))
        result = await sql.fetchval("select result from calls where call_id = $1", call_id)
        assert json.loads(result) == {"token": requests[-1].token, "packets": 1}
    without = {request.call_id for request in provider.requests if request.token is None}
    assert without == {calls[Behaviour.FAIL], calls[Behaviour.HANG]}


async def has_tokens(provider: Provider, call_id: str, wanted: int) -> bool:
    tokens = {request.token for request in provider.requests if request.call_id == call_id}
    return len(tokens - {None}) == wanted


async def test_provider_that_is_gone_fails_the_call(broken: Break, sql: Sql) -> None:
    async with Provider(1, late=1) as provider:
        server = broken({"PROVIDER": provider.url}, retry_initial=0.01)
    async with server, Client(server) as client:
        await send_at_once(client, "c")
        await until_state(sql, "c", "FAILED")
        reasons = {reason for _, reason in await read_attempts(sql, "c")}
        assert reasons == {None, "the provider cannot be asked: ClientConnectorError"}
        await check_calls(client, sql)


def make_request(call_id: str) -> dict[str, Any]:
    told = {"call_id": call_id, "generation": 1, "attempt": 1, "packets": 1}
    return {"json": told, "headers": {"Idempotency-Key": f"{call_id}:1"}}


async def test_provider_that_is_away_refuses_at_once_until_it_is_back() -> None:
    async with (
        Provider(1, late=1, failure_rate=0, hang_rate=0, late_rate=0) as provider,
        ClientSession() as session,
    ):
        statuses = []
        for provider.is_away in (False, True, False):
            async with session.post(provider.url, **make_request("c")) as response:
                statuses.append(response.status)
    assert statuses == [200, 503, 200]
    first, refused, last = (request.token for request in provider.requests)
    assert refused is None
    assert None not in (first, last)
    assert first != last


async def test_provider_closes_although_requests_hang_or_are_to_be_late() -> None:
    async with Provider(1, late=60) as provider, ClientSession() as session:
        names = [find_call(provider, behaviour) for behaviour in (Behaviour.HANG, Behaviour.LATE)]
        asking = [asyncio.create_task(session.post(provider.url, **make_request(name))) for name in names]

        async def are_there() -> bool:
            return len(provider.requests) == 2

        await eventually(are_there)
        async with asyncio.timeout(1):
            await provider.__aexit__()
        assert [response.status for response in await asyncio.gather(*asking)] == [503, 503]
    assert [request.token for request in provider.requests] == [None, None]


def test_seed_replays_and_keeps_to_the_rates() -> None:
    calls = [str(n) for n in range(2_000)]
    chosen = [Provider(7, late=1).choose(call_id, 1, 1) for call_id in calls]
    assert [Provider(7, late=1).choose(call_id, 1, 1) for call_id in calls] == chosen
    assert [Provider(8, late=1).choose(call_id, 1, 1) for call_id in calls] != chosen
    for behaviour, rate in {"fail": 0.3, "hang": 0.1, "late": 0.05, "answer": 0.55}.items():
        assert chosen.count(Behaviour(behaviour)) / len(calls) == pytest.approx(rate, abs=0.03)


async def send_poison(client: Client, call_id: str) -> Reply:
    return await client.send(call_id, 2, POISON)


async def send_poison_in_a_body(client: Client, call_id: str) -> Reply:
    packets = [{"sequence": n, "data": data, "timestamp": 1.0} for n, data in ((2, "good"), (3, POISON))]
    client.history.send(Key(call_id, "", 2), Content("good", 1.0))
    body = "".join(f"{json.dumps(packet)}\n" for packet in packets)
    headers = {"Content-Type": "application/x-ndjson"}
    return await client.request("POST", f"/v1/call/stream/{call_id}", data=body, headers=headers)


async def test_poisoned_calls_end_and_another_goes_on(broken: Break, sql: Sql) -> None:
    server = broken({"POISON": POISON})
    try:
        await server.start()
        async with Client(server) as client:
            for call_id in ("single", "body", "other"):
                await client.send(call_id, 1)
            for _ in range(MAX_FAILURES + 1):
                replies = await send_poison(client, "single"), await send_poison_in_a_body(client, "body")
                assert [(reply.status, reply.slug) for reply in replies] == [(503, "actor-restarted")] * 2
            for call_id in ("single", "body"):
                await until_state(sql, call_id, "FAILED")
                assert (await client.call(call_id))["end_reason"] == "poison"
            await client.send("other", 2, f"no {POISON}")
            for call_id in ("single", "body", "other"):
                await client.complete(call_id)
            await until_state(sql, "other", "ARCHIVED")
            await check_calls(client, sql)
    finally:
        assert await server.terminate() == 0
    faults = find_faults(server.log)
    assert len(faults) == 2 * (MAX_FAILURES + 1)
    assert all("RuntimeError: this packet is poison" in fault for fault in faults)


async def read_reports(server: Server, path: Path, wanted: int) -> list[dict[str, Any]]:
    """Ask for a report and return all, which must be *wanted*."""
    server.signal(signal.SIGUSR2)

    async def is_there() -> bool:
        return path.exists() and path.read_text().count("\n") == wanted

    await eventually(is_there)
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_report_tells_tasks_files_and_the_lag_since_the_last_one(
    broken: Break, sql: Sql, tmp_path: Path
) -> None:
    path = tmp_path / "report"
    async with broken({"REPORT": str(path), "STALL": "1.5"}) as server:
        await until(sql, CONNECTIONS, len(IDLE))
        await read_reports(server, path, 1)
        await read_reports(server, path, 2)
        server.signal(signal.SIGUSR1)
        await read_reports(server, path, 3)  # of two signals that come at once the second is handled first
        await read_reports(server, path, 4)
        async with ClientSession() as session, session.ws_connect(f"{server.url}/ws/supervisor"):
            _, before, *around, after = await read_reports(server, path, 5)
    shorter, longer = sorted(report["lag"] for report in around)
    assert longer >= 1.4
    assert max(before["lag"], shorter, after["lag"]) < 1
    assert all(report["lag_p99"] <= report["lag"] for report in (before, *around, after))
    assert {report["files"] for report in (before, *around)} == {before["files"]}
    assert {report["tasks"] for report in (before, *around)} == {before["tasks"]}
    assert after["files"] == before["files"] + 1
    assert after["tasks"] > before["tasks"]


async def test_stall_loses_nothing(broken: Break, sql: Sql) -> None:
    async with broken({"STALL": "0.5"}) as server, Client(server) as client:
        calls = [f"call-{n}" for n in range(10)]
        async with asyncio.TaskGroup() as senders:
            for call_id in calls:
                senders.create_task(send_some(client, call_id))
            await eventually(lambda: is_acked(client, 20))
            server.signal(signal.SIGUSR1)
        assert len(client.history.acked) == 1_000
        for call_id in calls:
            await client.finish(call_id)
        for call_id in calls:
            await until_state(sql, call_id, "ARCHIVED")
        await check_calls(client, sql)


async def is_acked(client: Client, wanted: int) -> bool:
    return len(client.history.acked) >= wanted


async def send_some(client: Client, call_id: str) -> None:
    for sequence in range(1, 101):
        await client.deliver(call_id, sequence)
