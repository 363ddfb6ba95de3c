"""Several systems on one database with a real NATS server between them.

Tried here: a message for a call that is elsewhere, that nobody has, that moves meanwhile; an owner that
stops, that is slow, that is not reached; NATS killed, away at the start, standing still, cut off from one
server; answers that are errors; what no message holds. tests/faults has servers that are killed or frozen.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from callactors.actors.registry import RegistryLimits
from callactors.cluster import NatsOptions, NatsRouter
from callactors.errors import (
    CallClosed,
    CallEnded,
    CallNotFailed,
    SequenceConflict,
    StorageUnavailable,
    UnknownCall,
)
from callactors.facts import Accepted
from callactors.messages import BeginStream, DropStream, EndStream, TellStatus
from callactors.packets import MAX_DATA, EndReason
from callactors.processors.contract import CallRecord
from callactors.retry import GiveUp, Outcome
from callactors.store.journal import JournalLimits
from callactors.system import CallSystem
from tests.cluster_scenes import cluster, counts, joined, nats_server, needs_nats, until_up
from tests.proxy import Wire, proxy_to
from tests.scenes import COMPLETE, Sql, packet, running, until, until_state
from tests.storage import locked, until_true, until_waiting

pytestmark = needs_nats


async def epoch(sql: Sql, call_id: str = "c") -> int:
    found: int = await sql.fetchval("select epoch from calls where call_id = $1", call_id)
    return found


async def test_a_packet_goes_to_the_server_that_has_the_call(dsn: str, sql: Sql) -> None:
    async with cluster(dsn) as (first, second):
        await first.accept("c.1:x", packet(1))
        accepted = await second.accept("c.1:x", packet(3))
        assert (accepted.total_received, accepted.gap) == (2, (2, 2))
        assert first.has("c.1:x")
        assert not second.has("c.1:x")
        assert await epoch(sql, "c.1:x") == 1
        assert await sql.fetchval("select count(*) from packets") == 2


async def test_an_answer_from_elsewhere_waits_for_the_commit(dsn: str, sql: Sql) -> None:
    async with cluster(dsn) as (first, second):
        await first.accept("c", packet(1))
        async with locked(dsn, "c"):
            reply = second.accept("c", packet(2))
            await until_waiting(sql)
            assert not reply.done()
        assert (await reply).total_received == 2


async def test_many_packets_go_together_and_come_back_one_by_one(dsn: str) -> None:
    async with cluster(dsn) as (first, second):
        await first.accept("c", packet(2, "two"))
        outcomes = await second.accept_many("c", [packet(1), packet(2, "other"), packet(3), packet(4)])
        assert [type(outcome) for outcome in outcomes] == [Accepted, SequenceConflict, Accepted]
        assert [outcome.packets for outcome in outcomes if isinstance(outcome, Accepted)] == [1, 2]


async def test_refusals_come_back_as_they_are(dsn: str, sql: Sql) -> None:
    async with cluster(dsn) as (first, second):
        with pytest.raises(UnknownCall):
            await second.complete("c", COMPLETE)
        await first.accept("c", packet(1, "first"))
        with pytest.raises(SequenceConflict) as refused:
            await second.accept("c", packet(1, "other"))
        assert (refused.value.call_id, refused.value.sequence) == ("c", 1)
        assert str(refused.value) == str(SequenceConflict("c", "", 1))
        with pytest.raises(CallNotFailed):
            await second.retry("c")
        assert first.has("c")


async def test_a_call_is_completed_and_ended_from_any_server(dsn: str, sql: Sql) -> None:
    async with cluster(dsn) as (first, second):
        await first.accept("c", packet(1))
        assert not (await second.complete("c", COMPLETE)).was_completed
        await until_state(sql, "c", "ARCHIVED")
        assert (await second.complete("c", COMPLETE)).was_completed
        with pytest.raises(CallClosed):
            await second.accept("c", packet(2))
        with pytest.raises(CallEnded):
            await second.cancel("c")
        assert await epoch(sql) == 1


async def test_a_failed_call_is_retried_from_any_server(dsn: str, sql: Sql) -> None:
    async def give_up(_: CallRecord) -> Outcome:
        return GiveUp("no")

    async with cluster(dsn, processor=give_up) as (first, second):
        await first.accept("c", packet(1))
        await first.complete("c", COMPLETE)
        await until_state(sql, "c", "FAILED")
        assert await second.retry("c") == 2


async def test_a_read_tells_what_the_owner_knows_and_wakes_nobody(dsn: str, sql: Sql) -> None:
    async with cluster(dsn) as (first, second):
        for sequence in (1, 2, 2):
            await first.accept("c", packet(sequence))
        known = (await second.read("c")).call
        assert (known.packets, known.duplicates) == (2, 1)
        assert await sql.fetchval("select duplicates from calls") == 0, "only the owner knows"
        await sql.execute("insert into calls (call_id) values ('idle')")
        assert (await second.read("idle")).call.packets == 0
        assert not second.has("idle")


async def test_what_a_vendor_tells_goes_to_the_server_that_has_the_call(dsn: str, sql: Sql) -> None:
    async with cluster(dsn) as (first, second):
        await first.accept("c", packet(1))
        await second.hear("c", BeginStream("s", {"codec": "mulaw"}))
        await second.hear("c", DropStream("s"))
        await second.hear("c", BeginStream("s", {}))
        await second.hear("c", TellStatus("k", {"status": "ringing"}, None))
        await second.hear("c", EndStream("s", ends_call=True))
        await until(sql, "select end_reason from calls", EndReason.STREAM_STOPPED)
        assert await epoch(sql) == 1
        assert not second.has("c")


async def test_a_call_nobody_has_is_claimed_where_it_is_asked_for(dsn: str, sql: Sql) -> None:
    async with cluster(dsn, registry=RegistryLimits(idle_timeout=0.05)) as (first, second):
        await first.accept("c", packet(1))
        await until(sql, "select owner is null from calls", True)
        accepted = await second.accept("c", packet(2))
        assert accepted.total_received == 2
        assert counts(second).claimed == 1


async def test_a_message_that_comes_while_the_owner_leaves_is_asked_again(dsn: str, sql: Sql) -> None:
    async with cluster(dsn, registry=RegistryLimits(idle_timeout=0.01)) as (first, second):
        for sequence in range(1, 200):
            system = (first, second)[sequence % 2]
            accepted = await system.accept("c", packet(sequence))
            assert accepted.total_received == sequence


async def test_a_stopped_server_lets_its_calls_go_at_once(dsn: str, sql: Sql) -> None:
    async with nats_server() as server, joined(dsn, server.url, "second") as second:
        async with joined(dsn, server.url, "first") as first:
            await asyncio.gather(*(first.accept(f"c{number}", packet(1)) for number in range(50)))
            first.drain()
            accepted = await asyncio.gather(*(second.accept(f"c{n}", packet(2)) for n in range(50)))
        assert [one.total_received for one in accepted] == [2] * 50
        assert not any(one.is_duplicate for one in accepted)


async def test_events_of_one_server_are_told_by_the_others(dsn: str) -> None:
    async with cluster(dsn) as (first, second):
        listening = second.subscribe()
        told = asyncio.ensure_future(anext(listening))
        await first.accept("c", packet(1))
        event = await told
        assert (event.call_id, event.to_state) == ("c", "IN_PROGRESS")
        await listening.aclose()


async def test_a_packet_that_no_message_holds_is_stored_where_it_is_sent(dsn: str, sql: Sql) -> None:
    large = "x" * MAX_DATA
    async with cluster(dsn) as (first, second):
        await first.accept("c", packet(1))
        outcomes = await second.accept_many("c", [packet(sequence, large) for sequence in range(2, 7)])
        assert sum(one.packets for one in outcomes if isinstance(one, Accepted)) == 5
        assert (await first.accept("c", packet(7))).total_received == 7, "the old owner asks the new one"
        assert not first.has("c")
        assert await epoch(sql) == 2


async def test_an_answer_that_no_message_holds_is_given_where_it_is_asked_for(
    dsn: str, sql: Sql, tmp_path: Path
) -> None:
    (tmp_path / "small.conf").write_text("max_payload: 4096")
    async with (
        nats_server("-c", str(tmp_path / "small.conf")) as server,
        joined(dsn, server.url, "first") as first,
        joined(dsn, server.url, "second") as second,
    ):
        for number in range(90):  # each leaves a gap, all of which are told
            await first.accept("c", packet(2**62 + 2 * number))
        accepted = await second.accept("c", packet(2**62 + 1_000))
        assert (accepted.total_received, len(accepted.gaps), accepted.is_duplicate) == (91, 91, True)
        assert await epoch(sql) == 2
        await first.accept("d", packet(1))
        assert (await second.accept("d", packet(2))).total_received == 2, "the link is there"


async def test_without_nats_calls_are_claimed_where_they_are_asked_for(dsn: str, sql: Sql) -> None:
    async with (
        nats_server() as server,
        joined(dsn, server.url, "first") as first,
        joined(dsn, server.url, "second") as second,
    ):
        await first.accept("c", packet(1))
        await server.kill()
        await until_up(first, False)
        await until_up(second, False)
        assert (await second.accept("c", packet(2))).total_received == 2
        assert (await first.accept("c", packet(3))).total_received == 3
        assert await epoch(sql) == 3
        await server.start()
        await until_up(first)
        await until_up(second)
        assert (await second.accept("c", packet(4))).total_received == 4
        assert await epoch(sql) == 3, "the owner holds its subject again"


async def test_a_server_starts_without_nats_and_joins_when_it_comes(dsn: str) -> None:
    async with nats_server() as server, joined(dsn, server.url, "first") as first:
        await first.accept("c", packet(1))
        await server.kill()
        await until_up(first, False)
        joining = asyncio.create_task(enter(joined(dsn, server.url, "second")))
        await server.start()
        second, leave = await joining
        await until_up(first)
        assert (await second.accept("c", packet(2))).total_received == 2
        assert not second.has("c")
        await leave()


async def enter(context: Any) -> tuple[CallSystem, Callable[[], Awaitable[None]]]:
    system = await context.__aenter__()
    return system, lambda: context.__aexit__(None, None, None)


async def test_nats_that_stands_still_is_found_out(dsn: str, sql: Sql) -> None:
    async with (
        nats_server() as server,
        joined(dsn, server.url, "first") as first,
        joined(dsn, server.url, "second") as second,
    ):
        await first.accept("c", packet(1))
        await server.freeze()
        accepted = await second.accept("c", packet(2))
        assert accepted.total_received == 2
        assert await epoch(sql) == 2


async def test_an_owner_that_is_only_slow_keeps_its_call(dsn: str, sql: Sql) -> None:
    async with cluster(dsn, ack_timeout=60.0) as (first, second):
        await first.accept("c", packet(1))
        asked = counts(second).asked
        async with locked(dsn, "c"):
            reply = second.accept("c", packet(2))
            await until_true(lambda: counts(second).asked > asked + 2)
            assert not reply.done(), "it was sent again, and again"
        accepted = await reply
        assert (accepted.total_received, accepted.is_duplicate) == (2, False)
        assert await epoch(sql) == 1


async def test_an_owner_whom_nats_does_not_reach_says_so_and_loses_its_call(dsn: str, sql: Sql) -> None:
    async with nats_server() as server, proxy_to(server.url) as wire:
        near = joined(dsn, f"nats://127.0.0.1:{wire.port}", "near")
        async with near as first, joined(dsn, server.url, "second") as second:
            await first.accept("c", packet(1))
            wire.wire = Wire.BLACK_HOLE
            assert (await second.accept("c", packet(2))).total_received == 2
            assert await epoch(sql) == 2
            assert (await first.accept("c", packet(3))).total_received == 3, "it claims what it is asked for"
            wire.wire = Wire.PASS
            wire.cut()
            await until_up(first)
            assert (await second.accept("c", packet(4))).total_received == 4
            assert await epoch(sql) == 3


async def test_an_owner_that_takes_nothing_new_says_so_at_once(dsn: str) -> None:
    async with cluster(dsn, journal=JournalLimits(max_age=0.05), ack_timeout=60.0) as (first, second):
        await first.accept("c", packet(1))
        async with locked(dsn, "c"):
            held_up = first.accept("c", packet(2))
            await until_true(lambda: first.storage_lag > 0.05)
            with pytest.raises(StorageUnavailable):
                await second.accept("c", packet(3))
        assert (await held_up).total_received == 2


async def test_a_retry_without_an_answer_is_not_asked_a_second_time(dsn: str, sql: Sql) -> None:
    async with nats_server() as server, proxy_to(server.url) as wire:
        near = joined(dsn, f"nats://127.0.0.1:{wire.port}", "near", ack_timeout=60.0)
        async with joined(dsn, server.url, "owner") as owner, near as asker:
            await owner.accept("c", packet(1))
            wire.wire = Wire.DEAF
            reply = asker.cancel("c")
            await until_state(sql, "c", "FAILED")
            with pytest.raises(StorageUnavailable):
                await reply
            wire.wire = Wire.PASS
            wire.cut()


async def test_a_server_that_stops_leaves_nobody_waiting_for_another(dsn: str) -> None:
    async with cluster(dsn, ack_timeout=60.0) as (owner, asker):
        await owner.accept("c", packet(1))
        async with locked(dsn, "c"):
            waiting = asker.accept("c", packet(2))
            await asker.stop()
            with pytest.raises(StorageUnavailable):
                await waiting


@pytest.mark.parametrize("call_id", ["*", ">", "a b", "a/b", "a.b", "%2E", "\u00e9:1"])
async def test_whatever_an_application_calls_its_calls_they_are_found(dsn: str, call_id: str) -> None:
    async with cluster(dsn) as (first, second):
        await first.accept("other", packet(1))
        await first.accept(call_id, packet(1))
        assert (await second.accept(call_id, packet(2))).total_received == 2
        assert not second.has(call_id)
        assert (await second.accept("other", packet(2))).total_received == 2


async def test_files_that_are_spoilt_keep_a_server_alone_until_they_are_well(
    dsn: str, tmp_path: Path
) -> None:
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    router = NatsRouter(NatsOptions(servers=["nats://127.0.0.1:1"], ca=path))
    async with running(dsn, router=router) as system:
        path.write_text("")
        await system.accept("c", packet(1))
        path.unlink()
        assert (await system.accept("c", packet(2))).total_received == 2
        await until_true(lambda: router.counts.claimed > 0)
        assert system.failed is None
