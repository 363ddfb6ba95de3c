"""Calls through the whole system, on a real PostgreSQL, without HTTP."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from callactors.actors.registry import RegistryLimits
from callactors.errors import (
    CallClosed,
    Draining,
    Fenced,
    SequenceConflict,
    StorageRefused,
    UnknownCall,
)
from callactors.packets import CompleteRequest, EndReason, Packet
from callactors.processors.contract import CallRecord
from callactors.retry import Done, GiveUp, Outcome, Retry, RetryPolicy
from callactors.states import CallState
from tests.scenes import COMPLETE, Sql, events, packet, running, until, until_state
from tests.storage import locked, until_waiting

_COUNT = "select count(*) from packets"


async def test_a_packet_is_stored_before_it_is_answered(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        accepted = await system.accept("c", packet(1))
        assert accepted.total_received == 1
        assert await sql.fetchval(_COUNT) == 1


async def test_a_packet_and_its_repeat_are_answered_after_the_commit(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        async with locked(dsn, "c"):
            replies = [system.accept("c", packet(2)) for _ in range(2)]
            await until_waiting(sql)
            assert not any(reply.done() for reply in replies)
        assert [accepted.is_duplicate for accepted in await asyncio.gather(*replies)] == [False, True]


async def test_gaps_late_packets_and_duplicates_are_told_and_counted(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        assert (await system.accept("c", packet(5))).gap == (2, 4)
        late = await system.accept("c", packet(3))
        assert (late.is_late, list(late.gaps)) == (True, [(2, 2), (4, 4)])
        assert (await system.accept("c", packet(3))).is_duplicate
        known = (await system.read("c")).call
        assert (known.packets, known.late, known.duplicates) == (3, 1, 1)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "call c: gap in stream '', 2-4 missing before 5" in told
    assert "call c: late packet 3 in stream ''" in told
    assert "call c: duplicate packet 3 in stream ''" in told
    row = await sql.fetchrow("select packets, late, duplicates, owner from calls")
    assert row is not None
    assert tuple(row) == (3, 1, 1, None)


async def test_same_sequence_with_other_data_is_refused_and_the_first_stays(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1, "first"))
        with pytest.raises(SequenceConflict):
            await system.accept("c", packet(1, "other"))
        assert (await system.accept("c", packet(1, "first"))).is_duplicate
        assert await sql.fetchval("select data from packets") == "first"


async def test_a_completed_call_is_archived_with_its_result(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        completed = await system.complete("c", CompleteRequest(metadata={"agent": "7"}))
        assert (completed.was_completed, completed.state) == (False, CallState.COMPLETED)
        await until_state(sql, "c", "ARCHIVED")
        assert (await system.complete("c", COMPLETE)).was_completed
        stored = await system.read("c")
    assert stored.columns["result"] == {"packets": 1}
    assert stored.columns["metadata"] == {"agent": "7"}
    assert await events(sql, "c") == [
        (1, "IN_PROGRESS", 0),
        (2, "COMPLETED", 0),
        (3, "PROCESSING_AI", 1),
        (4, "started", 1),
        (5, "succeeded", 1),
        (6, "ARCHIVED", 1),
    ]


async def test_complete_of_an_unknown_call_makes_none(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        with pytest.raises(UnknownCall):
            await system.complete("c", COMPLETE)
        with pytest.raises(UnknownCall):
            await system.read("c")
        assert await sql.fetchval("select count(*) from calls") == 0
        await system.accept("c", packet(1))
        assert not (await system.complete("c", COMPLETE)).was_completed


async def test_many_completes_at_once_give_one_transition(dsn: str, sql: Sql) -> None:
    async with running(dsn, grace=60.0) as system:
        await system.accept("c", packet(1))
        answers = await asyncio.gather(*(system.complete("c", COMPLETE) for _ in range(20)))
    assert [answer.was_completed for answer in answers].count(False) == 1
    assert await events(sql, "c") == [(1, "IN_PROGRESS", 0), (2, "COMPLETED", 0)]


async def test_packets_are_taken_in_the_grace_and_refused_behind_it(dsn: str, sql: Sql) -> None:
    processing, answer = asyncio.Event(), asyncio.Event()

    async def wait(_: CallRecord) -> Outcome:
        processing.set()
        await answer.wait()
        return Done()

    async with running(dsn, wait, grace=60.0) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        assert (await system.accept("c", packet(2))).is_late
        await sql.execute("update calls set wake_at = now()")
    async with running(
        dsn, wait
    ) as system:  # the first system's timer was for 60 s: the sweeper finds it due
        await processing.wait()
        with pytest.raises(CallClosed):
            await system.accept("c", packet(3))
        assert (await system.accept("c", packet(2))).is_duplicate
        answer.set()
        await until_state(sql, "c", "ARCHIVED")


async def test_nothing_missing_ends_the_grace_at_once(dsn: str, sql: Sql) -> None:
    async with running(dsn, grace=60.0) as system:
        await system.accept("c", packet(1))
        missing = await system.complete("c", CompleteRequest(last_sequence={"": 3}))
        assert dict(missing.missing) == {"": ((2, 3),)}
        await system.accept("d", packet(1))
        completed = await system.complete("d", CompleteRequest(last_sequence={"": 1}))
        assert completed.state is CallState.PROCESSING_AI
        await until_state(sql, "d", "ARCHIVED")
        assert await sql.fetchval("select state from calls where call_id = 'c'") == "COMPLETED"


async def test_a_call_that_was_busy_fails_without_the_ai_step(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        await system.complete("c", CompleteRequest(reason=EndReason.BUSY))
        assert await events(sql, "c") == [
            (1, "IN_PROGRESS", 0),
            (2, "COMPLETED", 0),
            (3, "PROCESSING_AI", 0),
            (4, "FAILED", 0),
        ]


async def test_failed_attempts_are_tried_again_and_the_last_one_fails_the_call(dsn: str, sql: Sql) -> None:
    attempts: list[int] = []

    async def fail(call: CallRecord) -> Outcome:
        attempts.append(call.attempt)
        raise RuntimeError(f"no luck {call.attempt}")

    async with running(dsn, fail) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "FAILED")
        stored = await system.read("c")
    assert attempts == [1, 2, 3, 4]
    assert stored.columns["last_error"] == {"attempt": 4, "reason": "RuntimeError: no luck 4"}


async def test_the_wait_is_stored_before_it_is_waited(dsn: str, sql: Sql) -> None:
    async def fail(_: CallRecord) -> Outcome:
        return Retry("later")

    async with running(dsn, fail, policy=RetryPolicy(initial=60.0)) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        query = "select attempt = 1 and not attempt_running and wake_at > now() + interval '50 s' from calls"
        await until(sql, query, True)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (GiveUp("never"), "never"),
        (Done({1, 2}), "the processor's result is not JSON: Object of type set is not JSON serializable"),
        (None, "the processor answered NoneType, not Done, Retry or GiveUp"),
    ],
)
async def test_what_cannot_succeed_later_fails_at_once(
    dsn: str, sql: Sql, outcome: Outcome, reason: str
) -> None:
    async def answer(_: CallRecord) -> Outcome:
        return outcome

    async with running(dsn, answer) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "FAILED")
        assert (await system.read("c")).columns["last_error"] == {"attempt": 1, "reason": reason}


async def test_a_result_that_the_database_refuses_ends_the_call_all_the_same(dsn: str, sql: Sql) -> None:
    async def answer(_: CallRecord) -> Outcome:
        return Done("a\x00b")

    async with running(dsn, answer) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "FAILED")


async def test_an_attempt_that_does_not_end_is_ended(dsn: str, sql: Sql) -> None:
    async def hang(call: CallRecord) -> Outcome:
        if call.attempt == 1:
            await asyncio.Event().wait()
        return Done()

    async with running(dsn, hang, policy=RetryPolicy(initial=0.0, attempt_timeout=0.05)) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "ARCHIVED")
        assert (await system.read("c")).call.facts.attempt == 2


async def test_an_orderly_stop_gives_the_running_attempt_back(dsn: str, sql: Sql) -> None:
    started = asyncio.Event()

    async def hang(_: CallRecord) -> Outcome:
        started.set()
        await asyncio.Event().wait()
        return Done()

    async with running(dsn, hang) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await started.wait()
    row = await sql.fetchrow("select attempt, attempt_running, owner, state from calls")
    assert row is not None
    assert tuple(row) == (0, False, None, "PROCESSING_AI")
    async with running(dsn) as system:
        await until_state(sql, "c", "ARCHIVED")
        assert (await system.read("c")).call.facts.attempt == 1


async def test_an_asker_that_goes_away_harms_nobody(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        tasks = [system.accept("c", packet(n)) for n in range(1, 11)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        answers = [await system.accept("c", packet(n)) for n in range(1, 11)]
    assert answers[-1].total_received == 10
    assert await sql.fetchval(_COUNT) == 10


async def test_a_refused_packet_takes_nothing_else_with_it_and_can_be_sent_again(dsn: str, sql: Sql) -> None:
    refused = Packet.model_construct(sequence=2, data="a\x00b", timestamp=1.0, stream="")
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        sent = [refused, *(packet(n) for n in range(3, 20))]
        first, *others = await asyncio.gather(*(system.accept("c", p) for p in sent), return_exceptions=True)
        assert isinstance(first, StorageRefused)
        assert not [other for other in others if isinstance(other, BaseException)]
        again = await system.accept("c", packet(2))
        assert (again.is_duplicate, again.is_late, again.total_received) == (False, True, 19)
        assert not again.gaps
    assert await sql.fetchval(_COUNT) == 19


async def test_a_call_goes_on_after_its_actor_left(dsn: str, sql: Sql) -> None:
    limits = RegistryLimits(idle_timeout=0.01)
    async with running(dsn, registry=limits) as system:
        await system.accept("c", packet(1))
        await system.accept("c", packet(4))
        await until(sql, "select owner is null from calls", True)
        accepted = await system.accept("c", packet(2))
        assert (accepted.total_received, list(accepted.gaps), accepted.is_late) == (3, [(3, 3)], True)


async def test_two_servers_that_fight_for_a_call_lose_nothing(dsn: str, sql: Sql) -> None:
    async with running(dsn, node="a") as a, running(dsn, node="b") as b:
        pending = set(range(1, 201))
        while pending:  # a sender sends again until it has its 202

            async def send(n: int) -> None:
                with suppress(Fenced):
                    await (a, b)[n % 2].accept("c", packet(n))
                    pending.discard(n)

            await asyncio.gather(*(send(n) for n in list(pending)))
        stored = await b.read("c")
        assert await sql.fetchval(_COUNT) == 200
        last = await a.accept("c", packet(201))
        assert (last.total_received, list(last.gaps)) == (201, [])
        assert stored.call.packets == 200


async def test_a_call_whose_ai_step_another_server_runs_is_answered_from_its_row(dsn: str, sql: Sql) -> None:
    started, answer = asyncio.Event(), asyncio.Event()

    async def wait(_: CallRecord) -> Outcome:
        started.set()
        await answer.wait()
        return Done("by a")

    async with running(dsn, wait, node="a") as a, running(dsn, node="b") as b:
        await a.accept("c", packet(1))
        await a.complete("c", COMPLETE)
        await started.wait()
        again = await b.complete("c", COMPLETE)
        assert (again.was_completed, again.state) == (True, CallState.PROCESSING_AI)
        assert (await b.accept("c", packet(1))).is_duplicate
        with pytest.raises(SequenceConflict):
            await b.accept("c", packet(1, "other"))
        with pytest.raises(CallClosed):
            await b.accept("c", packet(2))
        answer.set()
        await until_state(sql, "c", "ARCHIVED")
        assert (await b.read("c")).columns["result"] == "by a"


async def test_a_draining_system_refuses_new_work(dsn: str) -> None:
    async with running(dsn) as system:
        system.drain()
        with pytest.raises(Draining):
            await system.accept("c", packet(1))
        with pytest.raises(Draining):
            await system.complete("c", COMPLETE)


async def test_retries_go_on_in_another_server_with_the_attempts_counted(dsn: str, sql: Sql) -> None:
    async def fail(_: CallRecord) -> Outcome:
        return Retry("later")

    policy = RetryPolicy(initial=60.0)
    async with running(dsn, fail, policy=policy) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until(sql, "select attempt = 1 and not attempt_running from calls", True)
    await sql.execute("update calls set wake_at = now()")
    async with running(dsn, fail, policy=replace(policy, max_attempts=2)):
        await until_state(sql, "c", "FAILED")
    assert [said for _, said, attempt in await events(sql, "c") if attempt == 2] == [
        "started",
        "failed",
        "FAILED",
    ]
