"""The AI step of many calls: bounded, paused when the provider is down, and steered by hand.

Tried: more calls than may run, a provider that is down, cancelling while an attempt runs, waits and sleeps, a
restart while calls wait, retries and cancels that come twice and at once.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from callactors.errors import CallEnded, CallNotFailed, Fenced, UnknownCall
from callactors.packets import CompleteRequest
from callactors.processors.contract import CallRecord
from callactors.processors.gate import GateLimits
from callactors.retry import Done, GiveUp, Outcome, Retry, RetryPolicy
from callactors.system import CallSystem
from tests.scenes import COMPLETE, Sql, done, events, packet, running, until, until_state

_IN_STATE = "select count(*) from calls where state = $1"
NOW = CompleteRequest(last_sequence={"": 1})


class Provider:
    """Answers when it is let, and knows how many asked at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once = self.most = 0
        self.answer = asyncio.Event()
        self.is_asked = asyncio.Event()
        self.is_left = asyncio.Event()

    async def __call__(self, call: CallRecord) -> Outcome:
        self.asked.append(call.idempotency_key)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.is_asked.set()
        try:
            await self.answer.wait()
        finally:
            self.at_once -= 1
            self.is_left.set()
        return Done()


@asynccontextmanager
async def completed(dsn: str, provider: object, calls: int, **options: object) -> AsyncIterator[CallSystem]:
    """A system with so many calls that have been completed."""
    async with running(dsn, provider, **options) as system:  # type: ignore[arg-type]
        for number in range(calls):
            await system.accept(f"c{number}", packet(1))
            await system.complete(f"c{number}", NOW)
        yield system


async def test_no_more_attempts_run_at_once_than_may(dsn: str, sql: Sql) -> None:
    provider = Provider()
    async with completed(dsn, provider, 10, gate=GateLimits(attempts=3)) as system:
        await until(sql, _IN_STATE, 10, "PROCESSING_AI")
        assert (system.gate.running, system.gate.waiting) == (3, 7)
        assert await sql.fetchval("select count(*) from calls where attempt_running") == 3
        provider.answer.set()
        await until(sql, _IN_STATE, 10, "ARCHIVED")
        assert (provider.most, system.gate.running) == (3, 0)
    assert await events(sql, "c9") == [
        (1, "IN_PROGRESS", 0),
        (2, "COMPLETED", 0),
        (3, "PROCESSING_AI", 0),
        (4, "started", 1),
        (5, "succeeded", 1),
        (6, "ARCHIVED", 1),
    ]


async def test_an_attempt_is_stored_before_the_provider_is_asked(dsn: str, sql: Sql) -> None:
    found = []

    async def provider(call: CallRecord) -> Outcome:
        [stored] = await sql.fetch("select attempt, attempt_running from calls")
        found.append((call.attempt, *stored))
        return Retry("again") if call.attempt == 1 else Done()

    async with completed(dsn, provider, 1, policy=RetryPolicy(initial=0.0)) as system:
        while system.gate.running or len(found) < 2:  # noqa: ASYNC110  # the provider has the connection
            await asyncio.sleep(0.01)
    assert found == [(1, 1, True), (2, 2, True)]


async def test_calls_that_wait_for_their_attempt_go_on_behind_a_restart(dsn: str, sql: Sql) -> None:
    async with completed(dsn, Provider(), 3, gate=GateLimits(attempts=1)):
        await until(sql, _IN_STATE, 3, "PROCESSING_AI")
    async with running(dsn, done):
        await until(sql, _IN_STATE, 3, "ARCHIVED")
    assert await sql.fetchval("select max(attempt) from calls") == 1


async def test_while_the_provider_is_down_calls_wait_and_use_up_no_attempts(dsn: str, sql: Sql) -> None:
    is_down = True

    async def provider(_: CallRecord) -> Outcome:
        return Retry("down") if is_down else Done()

    limits, policy = GateLimits(failures=3, pause=0.2), RetryPolicy(initial=0.0, max_attempts=4)
    async with completed(dsn, provider, 8, gate=limits, policy=policy) as system:
        while system.gate.state != "closed":  # noqa: ASYNC110  # the feed tells, and is not looked at here
            await asyncio.sleep(0.01)
        is_down = False
        await until(sql, _IN_STATE, 8, "ARCHIVED")
        assert system.gate.state == "open"


async def test_what_an_owner_learns_too_late_is_not_stored(dsn: str, sql: Sql) -> None:
    provider = Provider()
    async with completed(dsn, provider, 1) as system:
        await provider.is_asked.wait()
        await sql.execute("insert into nodes (node, heartbeat_at) values ('other', now())")
        await sql.execute("update calls set owner = 'other', epoch = epoch + 1")
        provider.answer.set()
        while system.gate.running:  # noqa: ASYNC110  # its pass goes back as it is told to the actor
            await asyncio.sleep(0)
        with pytest.raises(Fenced):
            await system.cancel("c0")
    assert await sql.fetchval("select count(*) from calls where result is null and attempt_running") == 1
    assert [name for _, name, _ in await events(sql, "c0")][-1] == "started"


_ERROR = "select last_error::text from calls where call_id = $1"


async def test_an_attempt_ends_with_the_time_that_is_left_for_the_step(dsn: str, sql: Sql) -> None:
    provider = Provider()
    policy = RetryPolicy(step_timeout=0.3, initial=0.0)
    async with completed(dsn, provider, 1, policy=policy):
        await until_state(sql, "c0", "FAILED")
    assert "no time is left for another attempt" in await sql.fetchval(_ERROR, "c0")
    assert provider.asked == ["c0:1"]


async def test_the_time_for_the_step_runs_out_while_the_provider_is_down(dsn: str, sql: Sql) -> None:
    async def provider(_: CallRecord) -> Outcome:
        return Retry("down")

    limits, policy = GateLimits(failures=1, pause=60.0), RetryPolicy(initial=0.0, step_timeout=0.3)
    async with completed(dsn, provider, 1, gate=limits, policy=policy) as system:
        await until_state(sql, "c0", "FAILED")
        assert (system.gate.running, system.gate.waiting) == (0, 0)
    assert await sql.fetchval(_ERROR, "c0") == '{"reason": "no time is left for an attempt", "attempt": 1}'


async def test_the_time_for_the_step_goes_on_while_the_server_is_down(dsn: str, sql: Sql) -> None:
    async with completed(dsn, Provider(), 1):
        await until(sql, "select count(*) from calls where attempt_running", 1)
    await sql.execute("update call_events set at = at - interval '1 minute'")
    asked: list[str] = []

    async def provider(call: CallRecord) -> Outcome:
        asked.append(call.idempotency_key)
        return Done()

    async with running(dsn, provider, policy=RetryPolicy(step_timeout=59.0)) as system:
        await until_state(sql, "c0", "FAILED")
        assert await system.retry("c0") == 2  # which has a time of its own
        await until_state(sql, "c0", "ARCHIVED")
    assert asked == ["c0:2"]


async def test_a_failed_call_is_retried_with_attempts_from_1(dsn: str, sql: Sql) -> None:
    outcomes: Iterator[Outcome] = iter([GiveUp("no"), Done("yes")])
    keys = []

    async def provider(call: CallRecord) -> Outcome:
        keys.append((call.idempotency_key, call.attempt))
        return next(outcomes)

    async with completed(dsn, provider, 1) as system:
        await until_state(sql, "c0", "FAILED")
        found = await asyncio.gather(*(system.retry("c0") for _ in range(3)), return_exceptions=True)
        assert [one for one in found if one == 2] == [2]
        assert sum(isinstance(one, CallNotFailed) for one in found) == 2
        await until_state(sql, "c0", "ARCHIVED")
        with pytest.raises(CallNotFailed):
            await system.retry("c0")
        with pytest.raises(UnknownCall):
            await system.retry("nobody")
    assert keys == [("c0:1", 1), ("c0:2", 1)]
    assert await sql.fetchval("select result::text from calls") == '"yes"'


async def test_a_call_is_cancelled_while_its_attempt_runs(dsn: str, sql: Sql) -> None:
    provider = Provider()
    async with completed(dsn, provider, 1) as system:
        await provider.is_asked.wait()
        await system.cancel("c0")
        await provider.is_left.wait()
        with pytest.raises(CallEnded):
            await system.cancel("c0")
        assert system.gate.running == 0
    row = await sql.fetchrow("select state, end_reason, attempt_running from calls")
    assert row is not None
    assert tuple(row) == ("FAILED", "canceled", False)


async def test_a_call_is_cancelled_while_it_waits_and_while_it_sleeps(dsn: str, sql: Sql) -> None:
    async def fail(_: CallRecord) -> Outcome:
        return Retry("later")

    policy = RetryPolicy(initial=60.0)
    async with completed(dsn, fail, 1, policy=policy) as system:
        await until(sql, "select count(*) from call_events where detail->>'phase' = 'failed'", 1)
        await system.cancel("c0")
    provider = Provider()
    async with running(dsn, provider, gate=GateLimits(attempts=1)) as system:
        for call_id in ("runs", "waits"):
            await system.accept(call_id, packet(1))
            await system.complete(call_id, NOW)
        await system.cancel("waits")
        assert (system.gate.waiting, system.gate.running) == (0, 1)
        provider.answer.set()
        await until_state(sql, "runs", "ARCHIVED")
    assert await sql.fetchval(_IN_STATE, "FAILED") == 2
    assert provider.asked == ["runs:1"]


async def test_a_call_in_progress_and_one_in_its_grace_are_cancelled(dsn: str, sql: Sql) -> None:
    async with running(dsn, grace=60.0) as system:
        await system.accept("live", packet(1))
        await system.accept("grace", packet(1))
        await system.complete("grace", COMPLETE)
        for call_id in ("live", "grace"):
            await system.cancel(call_id)
    assert await sql.fetchval(_IN_STATE, "FAILED") == 2
