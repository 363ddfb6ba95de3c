"""Every call ends: by its streams, by a provider, or because its time is over, also across restarts.

Tried: the process killed (its node's row is gone, its sockets with it), an orderly restart, an actor that
failed, passivation, a callback that comes twice and at once with others.
"""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from callactors.actors.registry import RegistryLimits
from callactors.call_actor import CallActor
from callactors.errors import CallClosed, UnknownCall
from callactors.messages import BeginStream, DropStream, EndStream, TellStatus
from callactors.packets import EndReason, Packet, PacketKind
from callactors.system import CallSystem
from tests.scenes import COMPLETE, Sql, done, packet, running, until, until_state

_REASON = "select end_reason from calls where call_id = $1"


async def begin(system: CallSystem, stream: str = "s", call_id: str = "c") -> None:
    await system.hear(call_id, BeginStream(stream, {"from": "1"}))
    await system.accept(call_id, packet(1, stream=stream))


async def timeline(sql: Sql, call_id: str = "c") -> list[str]:
    """What the call's events say, in order."""
    return [
        record["said"]
        for record in await sql.fetch(
            "select coalesce(detail->>'phase', detail->>'status', to_state) as said from call_events"
            " where call_id = $1 order by version",
            call_id,
        )
    ]


async def reason(sql: Sql, call_id: str = "c") -> str | None:
    found: str | None = await sql.fetchval(_REASON, call_id)
    return found


async def test_a_stream_begins_a_call_and_its_stop_ends_it(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.hear("c", BeginStream("s", {"from": "1"}))
        assert (await system.read("c")).columns["metadata"] == {"from": "1"}
        await system.accept("c", packet(1, stream="s"))
        await system.hear("c", EndStream("s", True))
        await until_state(sql, "c", "ARCHIVED")
    assert await reason(sql) == "stream_stopped"
    assert (await timeline(sql))[:4] == ["IN_PROGRESS", "started", "stopped", "COMPLETED"]


async def test_a_stop_or_a_loss_makes_no_call(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        for message in (EndStream("s", True), DropStream("s")):
            with pytest.raises(UnknownCall):
                await system.hear("c", message)
    assert await sql.fetchval("select count(*) from calls") == 0


async def test_a_lost_connection_ends_the_call_unless_it_is_back(dsn: str, sql: Sql) -> None:
    async with running(dsn, drop_timeout=0.3) as system:
        await begin(system)
        await begin(system, call_id="lost")
        await system.hear("c", DropStream("s"))
        await system.hear("c", BeginStream("s", {}))
        await system.hear("lost", DropStream("s"))
        await until_state(sql, "lost", "ARCHIVED")
        assert (await system.read("c")).call.facts.state == "IN_PROGRESS"
    assert await reason(sql, "lost") == "stream_dropped"


async def test_a_lost_connection_is_waited_for_across_a_restart(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await begin(system)
        await begin(system, call_id="back")
        await system.hear("c", DropStream("s"))
    wait = "select wake_at > now() + interval '20 s' from calls where call_id = $1"
    assert await sql.fetchval(wait, "c")
    await sql.execute("update calls set wake_at = now()")
    async with running(dsn, drop_timeout=0.1) as system:
        await system.hear("back", BeginStream("s", {}))
        await until_state(sql, "c", "ARCHIVED")
        assert (await system.read("back")).call.facts.state == "IN_PROGRESS"
    assert (await timeline(sql, "back"))[:4] == ["IN_PROGRESS", "started", "dropped", "resumed"]


async def test_streams_that_are_lost_with_their_process_are_dropped_by_another(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await begin(system)
        await begin(system, "t")
        await sql.execute("update calls set owner = 'dead/1', epoch = epoch + 1")
        async with running(dsn, node="other", drop_timeout=0.2):
            await until_state(sql, "c", "ARCHIVED")
    assert await reason(sql) == "stream_dropped"
    assert (await timeline(sql))[:6] == [
        "IN_PROGRESS",
        "started",
        "started",
        "dropped",
        "dropped",
        "COMPLETED",
    ]


async def test_a_stream_that_goes_on_behind_a_claim_by_another_does_not_end(dsn: str, sql: Sql) -> None:
    """Its connection lives; only the actor was fenced, and takes the call back."""
    over = "select clock_timestamp() > started_at + interval '1.5 s' from calls"
    async with running(dsn, drop_timeout=1.0) as system:
        await begin(system)
        await sql.execute("update calls set owner = 'dead/1', epoch = epoch + 1")
        sequence = 1
        while not await sql.fetchval(over):
            sequence += 1
            await system.accept("c", packet(sequence, stream="s"))
        assert (await system.read("c")).call.facts.state == "IN_PROGRESS"
        await system.hear("c", EndStream("s", True))
        await until_state(sql, "c", "ARCHIVED")
    assert await reason(sql) == "stream_stopped"


async def test_a_call_without_packets_for_long_ends(dsn: str, sql: Sql) -> None:
    async with running(dsn, call_idle_timeout=0.2) as system:
        await system.accept("c", packet(1))
        await until_state(sql, "c", "ARCHIVED")
    assert await reason(sql) == "idle_timeout"


async def test_a_call_that_takes_too_long_ends_though_packets_come(dsn: str, sql: Sql) -> None:
    async with running(dsn, call_idle_timeout=60.0, max_call_duration=0.5) as system:
        sequence = 0
        while (await system.read("c")).call.facts.state.takes_packets if sequence else True:
            sequence += 1
            with suppress(CallClosed):
                await system.accept("c", packet(sequence))
        await until_state(sql, "c", "ARCHIVED")
    assert await reason(sql) == "max_duration"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({"call_idle_timeout": 0.2}, "idle_timeout"), ({"max_call_duration": 0.2}, "max_duration")],
)
async def test_the_time_of_a_call_goes_on_while_no_server_runs(
    dsn: str, sql: Sql, options: dict[str, Any], wanted: str
) -> None:
    async with running(dsn, **options) as system:
        await system.accept("c", packet(1))
    async with running(dsn, node="other", **options):
        await until_state(sql, "c", "ARCHIVED")
    assert await reason(sql) == wanted
    assert (await timeline(sql)).count("COMPLETED") == 1


async def test_a_call_with_packets_is_looked_at_again_later(dsn: str, sql: Sql) -> None:
    """Its wake_at comes too early: packets do not move it."""
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        await sql.execute("update calls set wake_at = now()")
        await until(sql, "select wake_at > now() + interval '50 minutes' from calls", True)
        assert (await system.read("c")).call.facts.state == "IN_PROGRESS"


async def test_the_last_packet_counts_also_behind_the_last_checkpoint(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        for stream in ("", "a"):
            for sequence in (1, 2):
                await system.accept("c", packet(sequence, stream=stream))
    await sql.execute("update packets set received_at = now() - interval '2 h' where sequence = 1")
    await sql.execute(
        "update calls set started_at = now() - interval '2 h', last_packet_at = now() - interval '2 h',"
        """ wake_at = now(), streams = '{"": {"last": 1, "missing": [[0, 0]]}}', packets = 1"""
    )
    async with running(dsn):
        await until(sql, "select wake_at > now() + interval '50 minutes' from calls", True)
    assert await reason(sql) is None


async def test_a_call_whose_connection_is_open_stays_in_memory(dsn: str, sql: Sql) -> None:
    limits = RegistryLimits(resident=1)
    async with running(dsn, registry=limits) as system:
        await begin(system)
        assert system.has("c")
        await system.hear("c", EndStream("s", False))
        await system.accept("other", packet(1))
        await until(sql, "select owner is null from calls where call_id = 'c'", True)


async def test_a_call_whose_connection_is_open_elsewhere_leaves_memory(dsn: str, sql: Sql) -> None:
    """Nobody tells this server if another one has the call by then."""
    limits = RegistryLimits(resident=1)
    async with running(dsn, node="other") as other, running(dsn, registry=limits) as system:
        await system.hear("c", BeginStream("s", {}, other.server))
        await system.accept("other", packet(1))
        await until(sql, "select owner is null from calls where call_id = 'c'", True)
        assert (await system.read("c")).call.legs.live == {"s"}


async def test_a_status_makes_a_call_and_is_noted_once(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        ringing = TellStatus("1:ringing", {"vendor": "twilio", "status": "ringing"}, None)
        busy = TellStatus("2:busy", {"vendor": "twilio", "status": "busy"}, EndReason.BUSY)
        await asyncio.gather(*(system.hear("c", message) for message in (busy, ringing, busy, ringing)))
        await until_state(sql, "c", "FAILED")
    async with running(dsn) as system:
        await system.hear("c", busy)
    assert await reason(sql) == "busy"
    assert sorted(await timeline(sql)) == [
        "COMPLETED",
        "FAILED",
        "IN_PROGRESS",
        "PROCESSING_AI",
        "busy",
        "ringing",
    ]


async def test_an_end_that_a_provider_tells_first_waits_for_what_is_on_its_way(dsn: str, sql: Sql) -> None:
    async with running(dsn, grace=0.0, drop_timeout=60.0) as system:
        await begin(system)
        await system.hear("c", TellStatus("9", {"status": "completed"}, EndReason.PROVIDER))
        await system.accept("c", packet(2, stream="s"))
        await system.hear("c", EndStream("s", True))
        await until_state(sql, "c", "ARCHIVED")
    assert await reason(sql) == "provider"


async def test_a_call_of_which_nothing_but_its_start_came_skips_the_ai_step(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await system.hear("c", BeginStream("s", {}))
        start = Packet(sequence=1, data="", timestamp=0.0, stream="s", kind=PacketKind.START)
        await system.accept("c", start)
    async with running(dsn) as system:
        await system.hear("c", BeginStream("s", {}))
        await system.hear("c", EndStream("s", True))
        await until_state(sql, "c", "ARCHIVED")
    assert await sql.fetchval("select result is null and attempt = 0 from calls")
    assert await sql.fetchval("select kind from packets") == "start"


async def test_an_actor_that_fails_loses_no_stream(dsn: str, sql: Sql) -> None:
    fails = iter([True])

    class Failing(CallActor):
        async def receive(self, envelope: Any) -> None:
            if envelope.message == DropStream("fail") and next(fails, False):
                raise RuntimeError("on purpose")
            await super().receive(envelope)

        def receive_now(self, envelope: Any) -> bool:
            return False

    async with running(dsn, actor=Failing) as system:
        await begin(system)
        await asyncio.gather(system.hear("c", DropStream("fail")), return_exceptions=True)
        await system.accept("c", packet(2, stream="s"))
        await system.hear("c", EndStream("s", True))
        await until_state(sql, "c", "ARCHIVED")
    assert await reason(sql) == "stream_stopped"


async def test_a_call_that_was_completed_by_hand_ends_though_its_stream_goes_on(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        await begin(system)
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "ARCHIVED")
        with pytest.raises(CallClosed):
            await system.accept("c", packet(2, stream="s"))
        await system.hear("c", DropStream("s"))
        assert await sql.fetchval("select not streaming from calls")


async def test_an_idle_actor_learns_that_its_call_was_completed_elsewhere_and_claimed_in_its_name(
    dsn: str, sql: Sql
) -> None:
    """The claim was lost on its way, and came later than another server's."""
    async with running(dsn, done) as system:
        await system.accept("c", packet(1))
        await sql.execute(
            "update calls set state = 'COMPLETED', version = 2, epoch = epoch + 2, wake_at = now()"
            " where call_id = 'c'"
        )
        await until_state(sql, "c", "ARCHIVED")
