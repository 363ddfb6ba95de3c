"""A call whose actor was fenced while nobody else took it: its next step is found again."""

from callactors.processors.contract import CallRecord
from callactors.retry import Outcome, Retry
from tests.scenes import COMPLETE, Sql, packet, running, until, until_state
from tests.storage import claim
from tests.test_ai_step import NOW

_FAILED = "select count(*) from call_events where detail->>'phase' = 'failed'"


async def test_stray_claim_of_its_own_process_does_not_keep_a_call_in_its_grace(dsn: str, sql: Sql) -> None:
    async with running(dsn, grace=0.3) as system:
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await claim(sql, system._node.owner, "c")  # a claim that was given up, and arrives only now
        await until_state(sql, "c", "ARCHIVED")


async def test_call_that_another_server_took_and_left_goes_on(dsn: str, sql: Sql) -> None:
    async def fail(_: CallRecord) -> Outcome:
        return Retry("not yet", after=0.3)

    async with running(dsn, fail) as system:
        await system.accept("c", packet(1))
        await system.complete("c", NOW)
        await until(sql, _FAILED, 1)
        await sql.execute("update calls set epoch = epoch + 1, owner = 'killed/1'")
        await until(sql, "select count(*) > 1 from call_events where detail->>'phase' = 'started'", True)
