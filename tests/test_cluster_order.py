"""Messages of a call are decided in the order in which one server was asked, also while the call moves.

Tried here: an owner that dies with what was sent to it, one that says that the call has moved, and a server
whose own actor is fenced; a complete, or more packets, come right behind.
"""

import asyncio
from asyncio import Task
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client

from callactors.cluster import router as module
from callactors.cluster.asked import Asked, Lines, State
from callactors.cluster.wire import write_reply
from callactors.errors import Fenced, StorageUnavailable
from callactors.messages import RetryCall
from callactors.system import CallSystem
from tests.cluster_scenes import Nats, counts, joined, nats_server, needs_nats
from tests.scenes import COMPLETE, Sql, packet, until_state
from tests.storage import until_true

pytestmark = needs_nats


async def heard(client: Client) -> None:
    """Return when NATS has done all that *client* has said; its flush returns at the answer to any ping."""
    echo = await client.subscribe("echo")
    await client.publish("echo", b"")
    await echo.next_msg(timeout=None)


@asynccontextmanager
async def owner_of_one(server: Nats, *, answers: bool) -> AsyncIterator[Task[None]]:
    """Somebody who takes one message for the call, and is gone; if he *answers*, it has moved."""

    async def take() -> None:
        message = await subscription.next_msg(timeout=None)
        await subscription.unsubscribe()
        await heard(client)
        if answers:
            await message.respond(write_reply(Fenced()))

    async with await nats.connect(server.url) as client:
        subscription = await client.subscribe("callactors.*.*.call.c")
        await heard(client)
        yield asyncio.create_task(take())


@pytest.fixture
async def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hears that a call has moved takes a rest that is not over before the test has gone on."""
    monkeypatch.setattr(module, "_FIRST_WAIT", 1.0)


@asynccontextmanager
async def scene(
    dsn: str, sql: Sql, *, answers: bool
) -> AsyncIterator[tuple[CallSystem, CallSystem, Task[None]]]:
    """Two servers, a call that somebody else has, but not for long, and who is over when he is gone."""
    await sql.execute("insert into calls (call_id) values ('c')")
    async with (
        nats_server() as server,
        joined(dsn, server.url, "first", ack_timeout=60.0) as system,
        joined(dsn, server.url, "other") as other,
        owner_of_one(server, answers=answers) as gone,
    ):
        yield system, other, gone


async def test_a_complete_does_not_overtake_a_packet_that_died_with_its_owner(dsn: str, sql: Sql) -> None:
    async with scene(dsn, sql, answers=False) as (system, _, gone):
        sent = system.accept("c", packet(1))
        await gone
        assert not (await system.complete("c", COMPLETE)).was_completed
        assert not (await sent).is_late
        await until_state(sql, "c", "ARCHIVED")


@pytest.mark.usefixtures("slow")
async def test_a_complete_does_not_overtake_a_packet_whose_call_has_moved(dsn: str, sql: Sql) -> None:
    async with scene(dsn, sql, answers=True) as (system, other, _):
        sent = system.accept("c", packet(1))
        await until_true(lambda: counts(system).moved == 1)
        await other.accept("c", packet(1, stream="another"))
        assert not (await system.complete("c", COMPLETE)).was_completed
        assert not (await sent).is_late
        await until_state(sql, "c", "ARCHIVED")
        assert other.has("c")


@pytest.mark.usefixtures("slow")
async def test_packets_behind_one_whose_call_has_moved_stay_in_order(dsn: str, sql: Sql) -> None:
    async with scene(dsn, sql, answers=True) as (system, other, _):
        replies = [system.accept("c", packet(1))]
        await until_true(lambda: counts(system).moved == 1)
        await other.accept("c", packet(1, stream="another"))
        replies += [system.accept("c", packet(number)) for number in range(2, 50)]
        replies[20].cancel()
        accepted = [await reply for reply in replies if not reply.cancelled()]
    assert [one.sequence for one in accepted] == [number for number in range(1, 50) if number != 21]
    assert [one.total_received for one in accepted] == [*range(2, 50)]
    assert not any(one.is_late for one in accepted)


@pytest.mark.usefixtures("slow")
async def test_a_complete_does_not_overtake_a_packet_that_was_fenced_here(dsn: str, sql: Sql) -> None:
    async with nats_server() as server, joined(dsn, server.url, "only", ack_timeout=60.0) as system:
        await system.accept("c", packet(1))
        await sql.execute("update calls set owner = 'dead/1', epoch = epoch + 1")
        sent = [system.accept("c", packet(number)) for number in (2, 3)]
        await until_true(lambda: counts(system).moved == 2)
        ended = system.complete("c", COMPLETE)
        assert not (await ended).was_completed
        assert [(await one).is_late for one in sent] == [False, False]


@pytest.mark.usefixtures("slow")
async def test_what_a_person_wants_waits_behind_a_packet_and_is_done_once(dsn: str, sql: Sql) -> None:
    async with scene(dsn, sql, answers=True) as (system, other, _):
        sent = system.accept("c", packet(1))
        await until_true(lambda: counts(system).moved == 1)
        await other.accept("c", packet(1, stream="another"))
        await system.cancel("c")
        assert sent.done()
        assert (await sent).total_received == 2


async def test_what_a_person_wants_and_has_died_with_an_owner_is_not_done_before_others(
    dsn: str, sql: Sql
) -> None:
    async with scene(dsn, sql, answers=False) as (system, _, gone):
        canceled = system.cancel("c")
        await gone
        assert (await system.accept("c", packet(1))).total_received == 1
        with pytest.raises(StorageUnavailable):
            await canceled


async def test_what_is_held_up_goes_on_up_to_the_next_that_holds_up() -> None:
    lines, reply = Lines(), asyncio.get_running_loop().create_future()
    asked = [Asked(place, "c", RetryCall(), reply, True, None, 0.0) for place in range(6)]
    for one in reversed(asked):
        lines.add(one)
        one.state = State.BEHIND
    for place in (3, 0, 3):  # in whatever order answers come
        asked[place].attempts = 1
        lines.stick(asked[place])
    assert [one for one in asked if lines.holds_up(one)] == [asked[0]]
    lines.remove(asked[0])
    assert [*lines.free("c")] == asked[1:4]
    assert lines.holds_up(asked[3])
    lines.remove(asked[3])
    assert [*lines.free("c")][-2:] == asked[4:]
    assert not lines.is_stuck("c")
