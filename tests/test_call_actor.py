"""What a call's actor does when it fails itself, and when it leaves."""

import pytest

from callactors.actors import Envelope
from callactors.actors.registry import RegistryLimits
from callactors.call_actor import MAX_FAILURES, CallActor
from callactors.errors import ActorFailed, CallClosed
from callactors.messages import Accept, Message
from callactors.processors.contract import CallRecord
from callactors.retry import Done, Outcome
from tests.scenes import COMPLETE, Sql, events, packet, running, until, until_state
from tests.storage import locked


class Fragile(CallActor):
    """Fails on a packet that says so."""

    async def receive(self, envelope: Envelope[Message]) -> None:
        message = envelope.message
        if isinstance(message, Accept) and message.packet.data == "fail":
            raise RuntimeError("cannot bear this packet")
        await super().receive(envelope)

    def receive_now(self, envelope: Envelope[Message]) -> bool:
        return False


async def test_an_actor_that_failed_is_restarted_from_what_is_stored(dsn: str, sql: Sql) -> None:
    async with running(dsn, actor=Fragile) as system:
        await system.accept("c", packet(1))
        with pytest.raises(ActorFailed):
            await system.accept("c", packet(2, "fail"))
        accepted = await system.accept("c", packet(3))
        assert (accepted.total_received, list(accepted.gaps)) == (2, [(2, 2)])
        assert await sql.fetchval("select crashes from calls") == 1


async def test_a_call_that_fails_its_actor_again_and_again_is_ended(dsn: str, sql: Sql) -> None:
    async with running(dsn, actor=Fragile) as system:
        await system.accept("c", packet(1))
        for _ in range(MAX_FAILURES + 1):
            with pytest.raises(ActorFailed):
                await system.accept("c", packet(2, "fail"))
        await until_state(sql, "c", "FAILED")
        stored = await system.read("c")
        assert stored.call.facts.end_reason == "poison"
        assert stored.columns["last_error"] == {"reason": "its actor failed 4 times, last with RuntimeError"}
        with pytest.raises(CallClosed):
            await system.accept("c", packet(3))
        assert (await system.accept("c", packet(1))).is_duplicate
        assert (await system.complete("c", COMPLETE)).was_completed
    assert [said for _, said, _ in await events(sql, "c")][-2:] == ["PROCESSING_AI", "FAILED"]


async def test_the_end_of_a_call_that_fails_its_actor_is_told_once(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(dsn, actor=Fragile) as system:
        await system.accept("c", packet(1))
        for _ in range(MAX_FAILURES + 3):
            with pytest.raises(ActorFailed):
                await system.accept("c", packet(2, "fail"))
    assert sum("ended, because its actor failed" in record.message for record in caplog.records) == 1


async def test_a_failing_call_leaves_the_others_alone(dsn: str) -> None:
    async with running(dsn, actor=Fragile) as system:
        with pytest.raises(ActorFailed):
            await system.accept("bad", packet(1, "fail"))
        assert (await system.accept("good", packet(1))).total_received == 1


async def test_an_actor_that_fails_in_the_ai_step_has_the_attempt_counted(dsn: str, sql: Sql) -> None:
    attempts: list[int] = []

    async def note(call: CallRecord) -> Outcome:
        attempts.append(call.attempt)
        if len(attempts) == 1:
            with pytest.raises(ActorFailed):
                await system.accept("c", packet(1, "fail"))
        return Done()

    async with running(dsn, note, actor=Fragile) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "ARCHIVED")
    assert attempts == [1, 2]


async def test_an_actor_leaves_when_its_changes_are_stored(dsn: str, sql: Sql) -> None:
    async with running(dsn, registry=RegistryLimits(resident=1)) as system:
        await system.accept("c", packet(1))
        async with locked(dsn, "c"):
            reply = system.accept("c", packet(2))
            await system.accept("other", packet(1))  # there is room for one: the first is asked to leave
            assert system.has("c")
            assert not reply.done()
        assert (await reply).total_received == 2
        await until(sql, "select owner is null from calls where call_id = 'c'", True)
