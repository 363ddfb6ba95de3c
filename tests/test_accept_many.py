"""Packets that come together: each has its own outcome, whatever happens to the others."""

import asyncio
from collections.abc import Sequence

import pytest

from callactors.actors import Envelope
from callactors.call_actor import CallActor
from callactors.errors import (
    ActorFailed,
    CallClosed,
    Fenced,
    SequenceConflict,
    SequenceWindow,
    StorageRefused,
)
from callactors.facts import Accepted
from callactors.messages import AcceptMany, Message
from callactors.packets import Packet
from callactors.processors.contract import CallRecord
from callactors.retry import Done, Outcome
from tests.scenes import COMPLETE, Sql, packet, running
from tests.storage import unstorable

_COUNT = "select count(*) from packets"


def each(outcomes: Sequence[object]) -> list[object]:
    """The outcome of each packet: an Accepted may stand for several."""
    return [o for o in outcomes for _ in range(o.packets if isinstance(o, Accepted) else 1)]


def kinds(outcomes: Sequence[object]) -> list[type]:
    return [type(outcome) for outcome in each(outcomes)]


async def test_each_packet_has_its_own_outcome(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        first = await system.accept_many("c", [packet(n) for n in range(1, 101)])
        assert kinds(first) == [Accepted] * 100
        far = [packet(n) for n in range(200, 400, 2)]
        sent = [packet(1), packet(2, "other"), packet(102), *far, packet(103)]
        told = await system.accept_many("c", sent)
    assert kinds(told) == [Accepted, SequenceConflict, *[Accepted] * 100, SequenceWindow, Accepted]
    assert [isinstance(o, Accepted) and o.is_duplicate for o in told[:3]] == [True, False, False]
    assert await sql.fetchval(_COUNT) == 100 + 101


async def test_a_conflict_that_nobody_knew_is_told_of_its_packet_only(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        await sql.execute(
            "insert into packets (call_no, stream, sequence, timestamp, data)"
            " select call_no, '', 5, 1.0, 'foreign' from calls"
        )
        told = await system.accept_many("c", [packet(n) for n in range(2, 9)])
        assert kinds(told) == [Accepted] * 3 + [SequenceConflict] + [Accepted] * 3
        last = await system.accept("c", packet(9))
    assert (last.total_received, last.gaps) == (9, ())
    assert (
        await sql.fetchval("select string_agg(data, '' order by sequence) from packets") == "xxxxforeignxxxx"
    )


async def test_every_packet_of_a_run_counts_towards_the_next_checkpoint(
    dsn: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callactors.call_actor.CHECKPOINT_PACKETS", 100)
    async with running(dsn) as system:
        await system.accept_many("c", [packet(n) for n in range(1, 65)])
        assert await sql.fetchval("select packets from calls") == 0
        await system.accept_many("c", [packet(n) for n in range(65, 129)])
        assert await sql.fetchval("select packets from calls") == 128


async def test_no_packets_are_refused(dsn: str) -> None:
    async with running(dsn) as system:
        with pytest.raises(ValueError, match="no packets"):
            system.accept_many("c", [])


@pytest.mark.parametrize("is_loaded", [True, False])
async def test_a_refused_packet_takes_no_other_with_it(dsn: str, sql: Sql, is_loaded: bool) -> None:
    sent = [packet(n) for n in range(1, 62)]
    sent[2], sent[59] = unstorable(3), unstorable(60)
    async with running(dsn) as system:
        if is_loaded:
            await system.accept("c", packet(100))
        told = await system.accept_many("c", sent)
        assert [number for number, kind in enumerate(kinds(told), 1) if kind is not Accepted] == [3, 60]
        assert isinstance(told[2], StorageRefused)
        assert isinstance(told[59], StorageRefused)
        again = await system.accept_many("c", [packet(3), packet(60)])
        assert [isinstance(o, Accepted) and not o.is_duplicate for o in again] == [True, True]
    assert await sql.fetchval(_COUNT) == 61 + is_loaded


async def test_packets_that_come_back_keep_their_place(dsn: str) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        refused = system.accept("c", unstorable(100))
        single = system.accept("c", packet(2))
        together = system.accept_many("c", [packet(3), packet(4)])
        with pytest.raises(StorageRefused):
            await refused
        assert not (await single).is_late
        told = await together
        assert [isinstance(o, Accepted) and o.gap is None for o in told] == [True, True]


async def test_packets_whose_owner_was_fenced_are_decided_again(dsn: str, sql: Sql) -> None:
    async with running(dsn, node="a") as a, running(dsn, node="b") as b:
        pending = set(range(1, 601))
        while pending:  # a sender sends again what was refused

            async def send(numbers: list[int]) -> None:
                told = await (a, b)[numbers[0] % 2].accept_many("c", [packet(n) for n in numbers])
                for number, outcome in zip(numbers, each(told), strict=True):
                    assert isinstance(outcome, Accepted | Fenced)
                    if isinstance(outcome, Accepted):
                        pending.discard(number)

            left = sorted(pending)
            await asyncio.gather(*(send(left[i : i + 20]) for i in range(0, len(left), 20)))
        last = await a.accept("c", packet(601))
    assert (last.total_received, list(last.gaps)) == (601, [])
    assert await sql.fetchval(_COUNT) == 601


async def test_packets_for_a_call_whose_ai_step_another_server_runs(dsn: str) -> None:
    started, answer = asyncio.Event(), asyncio.Event()

    async def wait(_: CallRecord) -> Outcome:
        started.set()
        await answer.wait()
        return Done(None)

    async with running(dsn, wait, node="a") as a, running(dsn, node="b") as b:
        await a.accept("c", packet(1))
        await a.complete("c", COMPLETE)
        await started.wait()
        told = await b.accept_many("c", [packet(1), packet(1, "other"), packet(2)])
        assert kinds(told) == [Accepted, SequenceConflict, CallClosed]
        answer.set()


class Fragile(CallActor):
    """Fails on packets that come together, once they are decided."""

    def receive_now(self, envelope: Envelope[Message]) -> bool:
        taken = super().receive_now(envelope)
        if isinstance(envelope.message, AcceptMany):
            raise RuntimeError("cannot bear them")
        return taken


async def test_an_actor_that_fails_on_them_leaves_them_unknown_and_repeatable(dsn: str, sql: Sql) -> None:
    sent: list[Packet] = [packet(n) for n in range(2, 10)]
    async with running(dsn, actor=Fragile) as system:
        await system.accept("c", packet(1))
        with pytest.raises(ActorFailed):
            await system.accept_many("c", sent)
        for one in sent:
            await system.accept("c", one)
    assert await sql.fetchval(_COUNT) == 9
