"""Erasing calls: what is answered, what is told, and that nothing of them is left."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors.errors import CallErased, StorageUnavailable, UnknownCall
from callactors.packets import CompleteRequest
from callactors.processors.contract import CallRecord
from callactors.retry import Done, GiveUp, Outcome, RetryPolicy
from callactors.store import erasure
from callactors.store.nodes import LEASE
from callactors.store.writer import Verdict
from callactors.web.keys import SYSTEM
from tests.scenes import COMPLETE, events, make_app, packet, running, until, until_state
from tests.storage import (
    ME,
    Sql,
    claim,
    journal_of,
    locked,
    new,
    session,
    submit,
    until_true,
    until_waiting,
    verdicts,
    writer_of,
)

Client: TypeAlias = "TestClient[web.Request, web.Application]"
CANARY = "canary-7f3a"
SCRUBBED = "select erased_at is not null and wake_at is null from calls where call_id = $1"
COLUMNS = """
select table_name, column_name from information_schema.columns
where table_schema = 'public' and data_type in ('text', 'jsonb', 'json', 'ARRAY', 'bytea')
"""
ENDED_BY_ERASE = [(2, "COMPLETED", 0), (3, "PROCESSING_AI", 0), (4, "FAILED", 0), (5, "FAILED", 0)]


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(make_app(dsn, grace=60.0))


async def find_canary(sql: Sql) -> list[str]:
    """Where it stands, in any column of any table, and in what the planner keeps of them."""
    await sql.execute("analyze")
    columns = [f"{table}.{column}" for table, column in await sql.fetch(COLUMNS)]
    looked = {
        column: f"select count(*) from {column.split('.')[0]} where {column}::text like '%{CANARY}%'"
        for column in columns
    }
    looked["pg_stats"] = f"select count(*) from pg_stats s where s::text like '%{CANARY}%'"
    return [column for column, query in looked.items() if await sql.fetchval(query)]


async def answer(client: Client, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with client.request(method, path, **options) as response:
        return response.status, json.loads(await response.text())


async def erase(client: Client, call_id: str = "c") -> tuple[int, Any]:
    return await answer(client, "DELETE", f"/v1/call/{call_id}")


async def until_scrubbed(sql: Sql, call_id: str = "c") -> None:
    await until(sql, SCRUBBED, True, call_id)


async def test_a_live_call_ends_as_canceled_and_all_it_was_is_deleted(client: Client, sql: Sql) -> None:
    system = client.app[SYSTEM]
    await system.accept("c", packet(1))
    await system.accept("other", packet(1))
    status, told = await erase(client)
    assert (status, told["status"], told["call_id"]) == (202, "erasing", "c")
    assert datetime.now(UTC) >= datetime.fromisoformat(told["erased_at"])
    await until_scrubbed(sql)
    assert await events(sql, "c") == [(1, "IN_PROGRESS", 0), *ENDED_BY_ERASE]
    row = await sql.fetchrow(
        "select state, end_reason, owner, streams, packets from calls where call_id = 'c'"
    )
    assert row is not None
    assert tuple(row) == ("FAILED", "canceled", None, "{}", 0)
    assert await sql.fetchval("select count(*) from packets") == 1


async def test_erasing_again_changes_nothing_and_says_when_all_is_gone(client: Client, sql: Sql) -> None:
    await client.app[SYSTEM].accept("c", packet(1))
    _, first = await erase(client)
    await until_scrubbed(sql)
    before = await sql.fetchrow("select * from calls")
    assert await erase(client) == (202, {**first, "status": "erased"})
    assert await sql.fetchrow("select * from calls") == before
    assert await sql.fetchval("select count(*) from audit") == 1


async def test_an_unknown_call_is_not_found_and_not_in_the_audit(client: Client, sql: Sql) -> None:
    status, problem = await erase(client)
    assert (status, problem["type"]) == (404, "/problems/unknown-call")
    assert await sql.fetchval("select count(*) from calls") == 0
    assert await sql.fetchval("select count(*) from audit") == 0


async def test_an_ended_call_keeps_its_state_and_tells_nothing_but_that(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        await system.complete("c", CompleteRequest(metadata={"agent": "7"}))
        await until_state(sql, "c", "ARCHIVED")
        ended = await sql.fetchval("select finished_at from calls")
        await system.erase("c", "admin")
        await until_scrubbed(sql)
    row = await sql.fetchrow("select state, finished_at, metadata, result from calls")
    assert row is not None
    assert tuple(row) == ("ARCHIVED", ended, "{}", None)
    assert await sql.fetchval("select count(*) from call_events where detail <> '{}'") == 0
    assert (await events(sql, "c"))[-2:] == [(6, "ARCHIVED", 1), (7, "ARCHIVED", 1)]


async def test_nothing_of_it_is_left_in_any_column(dsn: str, sql: Sql) -> None:
    async def fail(_: CallRecord) -> Outcome:
        return GiveUp(CANARY)

    async def succeed(_: CallRecord) -> Outcome:
        return Done({CANARY: [CANARY]})

    for call_id, processor in (("a", fail), ("b", succeed)):
        async with running(dsn, processor) as system:
            await system.accept(call_id, packet(1, CANARY))
            await system.accept(call_id, packet(1, CANARY, stream=CANARY))
            await system.complete(call_id, CompleteRequest(metadata={"who": CANARY}))
            await until(sql, "select finished_at is not null from calls where call_id = $1", True, call_id)
    held = {"packets.data", "packets.stream", "calls.streams", "calls.metadata", "calls.result"}
    assert {*held, "calls.last_error", "call_events.detail"} <= set(await find_canary(sql))
    async with running(dsn) as system:
        for call_id in ("a", "b"):
            await system.erase(call_id, "admin")
            await until_scrubbed(sql, call_id)
    assert await find_canary(sql) == []


async def test_what_comes_later_is_told_that_the_call_is_gone(client: Client, sql: Sql) -> None:
    await client.app[SYSTEM].accept("c", packet(1))
    await erase(client)
    line = {"sequence": 2, "data": "x", "timestamp": 1.0}
    body = {"data": json.dumps(line), "headers": {"Content-Type": "application/x-ndjson"}}
    for method, path, options in (
        ("POST", "/v1/call/stream/c", {"json": {**line, "sequence": 1}}),
        ("POST", "/v1/call/stream/c", {"json": line}),
        ("POST", "/v1/call/stream/c", body),
        ("POST", "/v1/call/complete/c", {}),
        ("GET", "/v1/call/c", {}),
        ("GET", "/v1/call/c/events", {}),
        ("GET", "/v1/call/c/packets", {}),
    ):
        status, problem = await answer(client, method, path, **options)
        assert (status, problem["type"]) == (410, "/problems/call-erased"), path
    async with client.ws_connect("/v1/call/stream/c") as ws:
        await ws.send_json(line)
        refused = await ws.receive_json()
        assert (refused["type"], refused["problem"]["status"]) == ("refused", 410)
    await until_scrubbed(sql)
    assert await sql.fetchval("select count(*) from packets") == 0


async def test_lists_and_snapshots_leave_it_out(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callactors.store.snapshot.SHARED", 60.0)
    for call_id in ("c", "kept"):
        await client.app[SYSTEM].accept(call_id, packet(1))
        await client.app[SYSTEM].complete(call_id, CompleteRequest.model_validate({"reason": "busy"}))
        await until_state(sql, call_id, "FAILED")
    before = client.app[SYSTEM].snapshot()  # would be another's for a minute
    await erase(client)
    for query in ("", "?sort=transition", "?sort=call_id", "?call_id=c&call_id=kept", "?state=FAILED"):
        _, told = await answer(client, "GET", f"/v1/calls{query}")
        assert [call["call_id"] for call in told["calls"]] == ["kept"], query
    await until_true(lambda: client.app[SYSTEM].snapshot() is not before)
    parts = [part async for part in client.app[SYSTEM].snapshot().parts()]
    assert [row.call_id for part in parts for row in part.rows] == ["kept"]


async def test_a_running_attempt_is_cancelled_and_its_result_is_not_stored(dsn: str, sql: Sql) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: CallRecord) -> Outcome:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return Done()

    async with running(dsn, wait) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await began.wait()
        await system.erase("c", "admin")
        await ended.wait()  # the feed lets the actor find out
        with pytest.raises(CallErased):
            await system.accept("c", packet(2))
        await until_scrubbed(sql)
    assert (await events(sql, "c"))[-2:] == [(5, "FAILED", 1), (6, "FAILED", 1)]
    assert await sql.fetchval("select attempt_running from calls") is False


async def test_the_owner_on_another_server_is_fenced_and_says_that_it_is_gone(dsn: str, sql: Sql) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: CallRecord) -> Outcome:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return Done()

    async with running(dsn, wait, node="owner") as owner, running(dsn, node="other") as other:
        await owner.accept("live", packet(1))
        await owner.accept("busy", packet(1))
        await owner.complete("busy", COMPLETE)
        await began.wait()
        for call_id in ("live", "busy"):
            await other.erase(call_id, "admin")
            await until_scrubbed(sql, call_id)
            for system in (owner, other):
                with pytest.raises(CallErased):
                    await system.accept(call_id, packet(2))
                with pytest.raises(CallErased):
                    await system.complete(call_id, COMPLETE)
                with pytest.raises(CallErased):
                    await system.read(call_id)
        await ended.wait()
    assert await sql.fetchval("select count(*) from packets") == 0


async def test_supervisors_are_told_and_the_log_keeps_no_details(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    async def fail(_: CallRecord) -> Outcome:
        return GiveUp(CANARY)

    client = await aiohttp_client(make_app(dsn, fail))
    system = client.app[SYSTEM]
    async with (
        client.ws_connect("/ws/supervisor") as plain,
        client.ws_connect("/ws/supervisor?state=IN_PROGRESS&kinds=attempt") as narrow,
    ):
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        told = [await plain.receive_json() for _ in range(4)]
        assert CANARY in json.dumps(told[-1])
        await erase(client)
        erased = await plain.receive_json()
        assert (erased["type"], erased["call_id"], erased["state"]) == ("erased", "c", "FAILED")
        while (await narrow.receive_json())["type"] != "erased":
            pass
    query = {"since": told[0]["cursor"], "kinds": "attempt"}
    for _ in range(2):  # from memory, and from the log
        async with client.ws_connect("/ws/supervisor", params=query) as ws:
            again = [await ws.receive_json() for _ in range(6)]
        assert [frame["version"] for frame in again] == [2, 3, 4, 5, 6, 7]
        assert CANARY not in json.dumps(again)
        await until_scrubbed(sql)
        system.feed._recent.clear()
        system.feed._recent_after = system.feed._position


async def test_a_server_that_starts_in_the_middle_tells_no_details(dsn: str, sql: Sql) -> None:
    async def fail(_: CallRecord) -> Outcome:
        return GiveUp(CANARY)

    async with running(dsn, fail) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "FAILED")
    async with session(dsn) as other:
        await erasure.erase(other, "c", "admin")
    await sql.execute("update calls set wake_at = now() + interval '1 h'")  # nobody scrubs it for now
    assert await find_canary(sql) != []
    async with running(dsn) as system:
        assert system.feed._recent[-1].logged.kind == "erased"
        assert CANARY not in "".join(event.text for event in system.feed._recent)


async def test_each_erasure_is_in_the_audit_with_who_asked(client: Client, sql: Sql) -> None:
    await client.app[SYSTEM].accept("c", packet(1))
    await erase(client)
    status, told = await answer(client, "GET", "/v1/audit")
    [line] = told["audit"]
    assert (status, told["next"]) == (200, None)
    assert (line["actor"], line["action"], line["call_id"]) == ("local", "call erased", "c")


async def test_an_erasure_waits_for_the_flush_before_it_and_fences_the_one_behind_it(
    dsn: str, sql: Sql
) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(dsn) as journal, session(dsn) as other:
        writer = writer_of(journal, claimed)
        async with locked(dsn, "c"):
            before = submit(writer, new(1))
            await until_waiting(sql)
            erasing = asyncio.create_task(erasure.erase(other, "c", "admin"))
            await until_waiting(sql, 2)
        assert await verdicts(before) == [Verdict.STORED]
        await erasing
        assert await verdicts(submit(writer, new(2))) == [Verdict.FENCED]
    assert await sql.fetchval("select count(*) from packets") == 1


async def test_a_call_whose_row_is_locked_by_others_is_answered_and_erased_later(dsn: str) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        await system.accept("free", packet(1))
        async with locked(dsn, "c"):
            with pytest.raises(StorageUnavailable):
                await system.erase("c", "admin")
            await system.erase("free", "admin")
        await system.erase("c", "admin")


async def test_code_that_knows_of_no_erasure_never_gets_it(sql: Sql, dsn: str) -> None:
    await claim(sql, ME, "c")
    await erasure.erase(sql, "c", "admin")
    old = "select is_mine, state, tail_sequences from claim_1($1, array['c'], array[true], true, $2)"
    assert tuple(await sql.fetchrow(old, ME, LEASE) or ()) == (False, "FAILED", None)
    assert await sql.fetchval("select owner from calls") is None


async def test_a_claim_of_a_call_that_is_being_erased_reads_none_of_its_packets(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(dsn) as journal:
        await verdicts(submit(writer_of(journal, claimed), new(1), new(2)))
    await erasure.erase(sql, "c", "admin")
    [again] = await claim(sql, ME, "c")
    assert (again.is_mine, again.is_erased, again.call.packets) == (False, True, 0)


async def test_large_calls_are_scrubbed_in_batches_that_leave_each_other_alone(
    dsn: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 10)
    [claimed] = await claim(sql, ME, "c")
    packets = "insert into packets select $1, g, 1, now(), 's' || g % 3, 'x' from generate_series(1, 95) g"
    await sql.execute(packets, claimed.call_no)
    await erasure.erase(sql, "c", "admin")
    async with session(dsn) as first, session(dsn) as second:
        done = await asyncio.gather(
            erasure.scrub(lambda work: work(first), claimed.call_no),
            erasure.scrub(lambda work: work(second), claimed.call_no),
        )
        if not any(done):  # each left the other's last batch alone
            assert await erasure.scrub(lambda work: work(first), claimed.call_no)
    assert await sql.fetchval("select count(*) from packets") == 0


async def test_what_cannot_be_deleted_yet_is_deleted_later(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        async with session(dsn) as other, other.transaction():
            await other.execute("select from packets for update")
            assert not (await system.erase("c", "admin")).is_scrubbed
            await until(sql, "select count(*) from call_events where detail <> '{}'", 0)
            assert not (await system.erase("c", "admin")).is_scrubbed
        await until_scrubbed(sql)
        assert await sql.fetchval("select count(*) from packets") == 0


async def test_a_sender_that_goes_on_meets_nothing_but_202_and_410(client: Client, sql: Sql) -> None:
    """Whoever asks after the erasure's answer gets 410; what was stored before is deleted."""
    is_erased = False
    answers: list[tuple[bool, int]] = []

    async def send(stream: str) -> None:
        sequence, is_after = 0, False
        while not is_after:
            sequence, is_after = sequence + 1, is_erased
            line = {"sequence": sequence, "data": "x", "timestamp": 1.0, "stream": stream}
            status, _ = await answer(client, "POST", "/v1/call/stream/c", json=line)
            answers.append((is_after, status))

    senders = [asyncio.create_task(send(f"s{n}")) for n in range(8)]
    await until_true(lambda: len(answers) > 50)
    status, _ = await erase(client)
    is_erased = True
    await asyncio.gather(*senders)
    assert status == 202
    assert {code for _, code in answers} == {202, 410}
    assert {code for is_after, code in answers if is_after} == {410}
    await until_scrubbed(sql)
    assert await sql.fetchval("select count(*) from packets") == 0
    assert await sql.fetchval("select packets from calls") == 0


async def test_a_retry_that_waits_is_not_taken(dsn: str, sql: Sql) -> None:
    attempts: list[int] = []

    async def fail(call: CallRecord) -> Outcome:
        attempts.append(call.attempt)
        raise RuntimeError

    async with running(dsn, fail, policy=RetryPolicy(initial=60.0)) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until(sql, "select count(*) from call_events where detail->>'phase' = 'failed'", 1)
        await system.erase("c", "admin")
        await until_scrubbed(sql)
        with pytest.raises(UnknownCall):
            await system.erase("d", "admin")
    assert attempts == [1]
