"""What comes late, too often, or from servers that do not have the call, between several servers."""

import nats
from nats.aio.msg import Msg

from callactors.actors.registry import RegistryLimits
from callactors.cluster.wire import write_reply
from callactors.errors import Fenced
from callactors.facts import Accepted
from callactors.messages import Wake
from tests.cluster_scenes import cluster, counts, joined, nats_server, needs_nats, until_up
from tests.proxy import Wire, proxy_to
from tests.scenes import Sql, packet, until
from tests.storage import locked, until_true, until_waiting

pytestmark = needs_nats


async def test_a_call_that_was_let_go_while_nats_was_not_reached_is_not_asked_for_there(
    dsn: str, sql: Sql
) -> None:
    limits = RegistryLimits(idle_timeout=0.05)
    async with nats_server() as server, proxy_to(server.url) as wire:
        near = joined(dsn, f"nats://127.0.0.1:{wire.port}", "near", registry=limits)
        async with near as first, joined(dsn, server.url, "second") as second:
            wire.wire = Wire.BLACK_HOLE
            for sequence in range(1, 11):
                await first.accept("c", packet(sequence))
                await until(sql, "select owner is null from calls", True)
            await until_up(first, False)
            wire.wire = Wire.PASS
            wire.cut()
            await until_up(first)
            assert (await second.accept("c", packet(11))).total_received == 11
            assert counts(second).moved == 0


async def test_that_a_call_has_moved_counts_once_however_many_say_so(dsn: str, sql: Sql) -> None:
    async def refuse(message: Msg) -> None:
        for _ in range(20):
            await message.respond(write_reply(Fenced()))

    async with (
        nats_server() as server,
        joined(dsn, server.url, "first") as first,
        joined(dsn, server.url, "second") as second,
        await nats.connect(server.url) as others,
    ):
        await first.accept("c", packet(1))
        await others.subscribe("callactors.*.*.call.c", cb=refuse)
        await others.flush()
        async with locked(dsn, "c"):
            reply = second.accept("c", packet(2))
            await until_true(lambda: counts(second).moved > 0)
            await until_waiting(sql)
        assert (await reply).total_received == 2


async def test_an_answer_in_part_that_comes_late_is_not_added_to_the_whole(dsn: str, sql: Sql) -> None:
    heard: dict[str, Msg] = {}

    async def keep(message: Msg) -> None:
        heard[message.subject[-1]] = message

    async with (
        nats_server() as server,
        joined(dsn, server.url, "only") as system,
        await nats.connect(server.url) as others,
    ):
        await others.subscribe("callactors.*.*.call.*", cb=keep)
        await others.flush()
        await sql.execute("insert into calls (call_id) values ('c')")
        async with locked(dsn, "c"):
            reply = system.accept_many("c", [packet(2), packet(1)])
            await until_waiting(sql)
            accepted = Accepted("", 2, False, False, (1, 1), 1, ())
            await heard["c"].respond(write_reply([accepted, Fenced()]))
            behind = system.accept("d", packet(2))
            await until_true(lambda: "d" in heard)
            await heard["d"].respond(write_reply(accepted))
            await behind
        assert [one.sequence for one in await reply if isinstance(one, Accepted)] == [2, 1]


async def test_a_server_hears_nothing_for_a_call_that_it_has_not_claimed(dsn: str, sql: Sql) -> None:
    async with cluster(dsn, 3) as (first, second, third):
        await first.accept("c", packet(1))
        async with locked(dsn, "c"):
            second.registry.tell("c", Wake())
            await until_waiting(sql)
            reply = third.accept("c", packet(2))
            await until_true(lambda: counts(first).answered == 1)
        assert (await reply).total_received == 2
        assert counts(second).answered == 0
