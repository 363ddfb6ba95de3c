"""What a call may have at most, in packets and in data."""

import pytest

from callactors.errors import CallFull
from tests.scenes import COMPLETE, Sql, packet, running, until, until_state


async def test_a_call_takes_no_more_packets_than_it_may_have(dsn: str, sql: Sql) -> None:
    async with running(dsn, max_call_packets=2) as system:
        await system.accept("c", packet(1))
        await system.accept("c", packet(2))
        with pytest.raises(CallFull, match="2 packets"):
            await system.accept("c", packet(3))
        assert (await system.accept("c", packet(2))).is_duplicate
        assert (await system.accept("other", packet(1))).total_received == 1
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "ARCHIVED")


async def test_packets_that_come_together_fill_a_call_too(dsn: str, sql: Sql) -> None:
    async with running(dsn, max_call_packets=3) as system:
        await system.accept("c", packet(1))
        await system.accept_many("c", [packet(2), packet(3)])
        outcomes = await system.accept_many("c", [packet(4), packet(3), packet(5)])
        assert [isinstance(outcome, CallFull) for outcome in outcomes] == [True, False, True]
        assert await sql.fetchval("select count(*) from packets") == 3


async def test_a_call_takes_no_more_data_than_it_may_have_also_when_it_comes_back(dsn: str, sql: Sql) -> None:
    async with running(dsn, max_call_size=30) as system:
        await system.accept("c", packet(1, "x" * 10))
        await system.accept_many("c", [packet(2, "x" * 5), packet(3, "x" * 5)])
        await system.accept("c", packet(7, "x" * 9, stream="b"))
    await until(sql, "select owner is null from calls", True)
    async with running(dsn, max_call_size=30) as system:
        await system.accept("c", packet(4, "x"))
        with pytest.raises(CallFull, match="30 characters"):
            await system.accept("c", packet(5))
        assert (await system.accept("c", packet(4, "x"))).is_duplicate
