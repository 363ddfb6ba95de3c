"""Following the events of all calls in the process."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from callactors.call_events import CallEvent
from callactors.errors import LogPurged
from callactors.feed import TOPIC
from callactors.states import CallState
from callactors.store.events import START, Cursor, Position
from callactors.system import CallSystem
from tests.scenes import Sql, events, packet, running, until_state


async def until_archived(told: AsyncIterator[CallEvent], call_id: str) -> list[CallEvent]:
    """The call's events, up to its last."""
    found = []
    async for event in told:
        if event.call_id == call_id:
            found.append(event)
            if event.to_state is CallState.ARCHIVED:
                break
    return found


async def end(system: CallSystem, call_id: str) -> None:
    await system.accept(call_id, packet(1))
    await system.complete(call_id)


async def test_events_are_told_from_the_moment_of_subscribing(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("before", packet(1))
        told = system.subscribe()
        await end(system, "c")
        async with aclosing(told):
            found = await until_archived(told, "c")
    said = [(event.version, event.detail.get("phase", event.to_state), event.attempt) for event in found]
    assert said == await events(sql, "c")
    assert (found[0].from_state, found[0].to_state) == (None, CallState.IN_PROGRESS)


async def test_a_follower_goes_on_behind_its_cursor_in_another_process(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        told = system.subscribe()
        await end(system, "a")
        (*_, last) = await until_archived(told, "a")
        await told.aclose()
        await end(system, "b")
        await until_state(sql, "b", "ARCHIVED")
    async with running(dsn) as system, aclosing(system.subscribe(last.cursor)) as told:
        first = await anext(told)
        assert (first.call_id, first.version) == ("b", 1)
        rest = await until_archived(told, "b")
    assert [first.version, *(event.version for event in rest)] == [v for v, _, _ in await events(sql, "b")]


async def test_a_slow_follower_is_caught_up_from_the_log(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        witness = system.hub.subscribe(TOPIC)
        system.hub._limit = 1
        async with aclosing(system.subscribe()) as told:
            await system.accept("first", packet(1))
            await anext(told)
            assert system.hub.count(TOPIC) == 2
            await system.accept("second", packet(1))
            await end(system, "c")
            seen = 0
            while seen < 8:
                seen += len(await witness.get())
            assert system.hub.count(TOPIC) == 1  # its queue of one has overflowed
            assert (await anext(told)).call_id == "second"
            found = await until_archived(told, "c")
    assert [event.version for event in found] == [version for version, _, _ in await events(sql, "c")]


async def test_what_the_log_told_is_not_told_again_when_it_is_published(dsn: str) -> None:
    async with running(dsn) as system, running(dsn, node="b") as other:
        system.feed._recent_after = Position(2**62, 0)  # so that it reads what is not published
        async with aclosing(system.subscribe()) as told:
            await other.accept("theirs", packet(1))
            assert (await anext(told)).call_id == "theirs"
            await system.accept("ours", packet(1))
            assert (await anext(told)).call_id == "ours"


async def test_following_ends_when_the_system_drains(dsn: str) -> None:
    async with running(dsn) as system:
        told = system.subscribe()
        await system.accept("c", packet(1))
        assert (await anext(told)).version == 1
        system.drain()
        assert [event async for event in told] == []


async def test_a_follower_that_leaves_leaves_nothing_behind(dsn: str) -> None:
    async with running(dsn) as system:
        async with aclosing(system.subscribe()) as told:
            await system.accept("c", packet(1))
            await anext(told)
        assert system.hub.count(TOPIC) == 0


async def test_what_the_log_does_not_have_is_told(dsn: str) -> None:
    async with running(dsn) as system:
        with pytest.raises(ValueError, match="no cursor"):
            system.subscribe("anything")
        with pytest.raises(LogPurged):
            await anext(system.subscribe(str(Cursor("another-log", START))))
