"""What comes late, too often, or from servers that do not have the call, between several servers."""

from callactors.actors.registry import RegistryLimits
from tests.cluster_scenes import counts, joined, nats_server, needs_nats, until_up
from tests.proxy import Wire, proxy_to
from tests.scenes import Sql, packet, until

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
