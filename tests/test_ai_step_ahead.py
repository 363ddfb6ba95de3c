"""Decisions about the AI step before they are committed: what is committed or falls due then is outdated.

Tried, with the call's row held by another session: a cancel behind a complete, one while a retry's wait ends,
and a result while the deadline of its attempt passes.
"""

import asyncio
from collections import Counter, defaultdict

import pytest

from callactors import call as calls
from callactors.processors.contract import CallRecord
from callactors.retry import Done, Outcome, Retry, RetryPolicy
from callactors.store.journal import JournalLimits
from callactors.system import CallSystem
from tests.scenes import COMPLETE, Sql, done, events, packet, running, until, until_state
from tests.storage import locked
from tests.test_ai_step import NOW, completed

_FAILED = "select count(*) from call_events where call_id = $1 and detail->>'phase' = 'failed'"


async def begin(system: CallSystem, call_id: str) -> None:
    await system.accept(call_id, packet(1))
    await system.complete(call_id, NOW)


async def test_call_that_is_cancelled_before_its_attempt_is_stored_asks_nobody(dsn: str, sql: Sql) -> None:
    asked: list[str] = []

    async def provider(call: CallRecord) -> Outcome:
        asked.append(call.call_id)
        return Done()

    async with running(dsn, provider) as system:
        await system.accept("c", packet(1))
        async with locked(dsn, "c"):
            completing, cancelling = system.complete("c", NOW), system.cancel("c")
        await completing
        await cancelling
        await begin(system, "later")
        await until_state(sql, "later", "ARCHIVED")
    assert asked == ["later"]
    assert [said for _, said, _ in await events(sql, "c")][-2:] == ["started", "FAILED"]


async def test_call_that_is_cancelled_in_its_grace_before_that_is_stored_stays_cancelled(
    dsn: str, sql: Sql
) -> None:
    async with running(dsn, journal=JournalLimits(batch=1)) as system:
        await system.accept("c", packet(1))
        async with locked(dsn, "c"):
            completing, cancelling = system.complete("c", COMPLETE), system.cancel("c")
        await completing
        await cancelling
        await begin(system, "later")
        await until_state(sql, "later", "ARCHIVED")
    assert [said for _, said, _ in await events(sql, "c")][-1] == "FAILED"


async def test_wait_for_a_retry_that_ends_while_a_cancel_is_on_its_way_begins_nothing(
    dsn: str, sql: Sql
) -> None:
    asked: Counter[str] = Counter()
    is_asked_again = asyncio.Event()

    async def provider(call: CallRecord) -> Outcome:
        asked[call.call_id] += 1
        if asked["later"] == 2:
            is_asked_again.set()
        return Retry("not yet", after=1.0)

    async with running(dsn, provider) as system:
        for call_id in ("c", "later"):
            await begin(system, call_id)
            await until(sql, _FAILED, 1, call_id)
        async with locked(dsn, "c"):
            cancelling = system.cancel("c")
            await is_asked_again.wait()
        await cancelling
        assert [said for _, said, _ in await events(sql, "c")][-1] == "FAILED"
    assert asked["c"] == 1


async def test_deadline_that_passes_while_the_result_is_on_its_way_begins_nothing(
    dsn: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ATTEMPT_MARGIN", 0.1)
    asked: Counter[str] = Counter()
    is_asked: dict[tuple[str, int], asyncio.Event] = defaultdict(asyncio.Event)
    has_answer = asyncio.Event()

    async def provider(call: CallRecord) -> Outcome:
        asked[call.call_id] += 1
        is_asked[call.call_id, call.attempt].set()
        if call.call_id == "c":
            await has_answer.wait()
        elif call.attempt == 1:
            await asyncio.Event().wait()
        return Done()

    async with running(dsn, provider, policy=RetryPolicy(initial=0.5, attempt_timeout=1.0)) as system:
        for call_id in ("c", "later"):
            await begin(system, call_id)
            await is_asked[call_id, 1].wait()
        async with locked(dsn, "c"):
            has_answer.set()
            await is_asked["later", 2].wait()
        await until_state(sql, "c", "ARCHIVED")
        assert [said for _, said, _ in await events(sql, "c")][-1] == "ARCHIVED"
    assert asked["c"] == 1


async def test_attempt_that_is_cancelled_before_its_first_step_gives_its_pass_back(dsn: str) -> None:
    async with completed(dsn, done, 0) as system:
        await system.accept("c", packet(1))
        await system.complete("c", NOW)
        await system.cancel("c")  # nothing has run since the complete was answered
        assert system.gate.running == 0
