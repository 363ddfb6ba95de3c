"""Several servers on a NATS that falls into two halves, each of which works."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cluster_scenes import Nats, counts, joined, nats_server, needs_nats
from tests.proxy import Proxy, proxy_to
from tests.scenes import Sql, packet

pytestmark = needs_nats


@asynccontextmanager
async def halves() -> AsyncIterator[tuple[Nats, Nats, Proxy]]:
    """Two NATS servers that are one, and the wire between them."""
    route = f"nats://127.0.0.1:{Nats().port}"
    async with (
        nats_server("--cluster", route, "--cluster_name", "c") as one,
        proxy_to(route) as wire,
        nats_server(
            *("--cluster", f"nats://127.0.0.1:{Nats().port}", "--cluster_name", "c"),
            *("--routes", f"nats://127.0.0.1:{wire.port}"),
        ) as other,
    ):
        yield one, other, wire


async def test_calls_go_from_half_to_half_while_nats_is_split_and_settle_when_it_is_whole(
    dsn: str, sql: Sql
) -> None:
    """Packets of one call come to both halves in turn, before, meanwhile and after."""
    sent = 0

    async def send_round() -> int:
        """Send a packet to each half, and return how often the call was claimed for that."""
        nonlocal sent
        before = await sql.fetchval("select epoch from calls")
        for system in (first, second):
            sent += 1
            accepted = await system.accept("c", packet(sent))
            assert (accepted.total_received, accepted.is_late) == (sent, False)
        claimed: int = await sql.fetchval("select epoch from calls") - (before or 0)
        return claimed

    async def send_until_claimed(times: int) -> None:
        while await send_round() != times:
            pass

    async with (
        halves() as (one, other, wire),
        joined(dsn, one.url, "first") as first,
        joined(dsn, other.url, "second") as second,
    ):
        await send_until_claimed(0)
        wire.refuse()
        await send_until_claimed(2)
        await send_until_claimed(2)
        assert counts(first).claimed + counts(second).claimed >= 4
        await wire.listen()
        await send_until_claimed(0)
    assert await sql.fetchval("select count(*) from packets") == sent
