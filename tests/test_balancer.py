"""docs/haproxy.cfg, run by a real HAProxy before three servers of a cluster.

Tried here: calls that stay where they are, each way in; a server that drains, that is gone, that comes back;
nobody that is ready; whose request it is said to be.
"""

import asyncio
import os
import shutil
import socket
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, hdrs, web
from yarl import URL

from callactors.cluster import NatsOptions, NatsRouter
from callactors.routing import RouteCounts
from callactors.settings import Settings
from callactors.system import CallSystem
from callactors.web.guard import GuardRules, get_guard
from callactors.web.setup import routes, setup
from tests.cluster_scenes import Nats, nats_server, needs_nats, until_up
from tests.pages import ROOT
from tests.scenes import OPTIONS, Sql, done

PROGRAM = shutil.which("haproxy") or ""
RULES = GuardRules(proxies=Settings(trusted_proxies="127.0.0.1").trusted_proxies, is_insecure=True)

pytestmark = [
    needs_nats,
    pytest.mark.skipif(not PROGRAM, reason="there is no haproxy here: apt install haproxy"),
]


class Node:
    """One server, which can be stopped and started again on its port."""

    def __init__(self, dsn: str, nats: Nats, name: str, port: int) -> None:
        self.port = port
        self._dsn = dsn
        self._nats = nats
        self._name = name

    async def start(self) -> None:
        router = NatsRouter(NatsOptions(servers=[self._nats.url]))
        self.counts: RouteCounts = router.counts
        self.system = CallSystem(self._dsn, done, replace(OPTIONS, node=self._name), router=router)
        app = web.Application()
        setup(app, self.system, rules=RULES)
        app.add_routes([*routes(), web.get("/seen", see)])
        self._runner = web.AppRunner(app, shutdown_timeout=5.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        await until_up(self.system)

    async def stop(self) -> None:
        await self._runner.cleanup()


async def see(request: web.Request) -> web.Response:
    """Tell whose request this is taken for, and what it says itself."""
    told = [*request.headers.getall(hdrs.X_FORWARDED_FOR), *request.headers.getall(hdrs.FORWARDED, [])]
    return web.json_response([get_guard(request).client_address(request), *told])


class Balancer:
    """What clients ask."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self.url = url
        self.session = session

    async def send(self, call_id: str, sequence: int) -> Any:
        """Send a packet and return the answer to it."""
        packet = {"sequence": sequence, "data": "x", "timestamp": 1.0}
        async with self.session.post(f"{self.url}/v1/call/stream/{call_id}", json=packet) as response:
            assert response.status == 202, await response.text()
            return await response.json()

    async def send_all(self, calls: list[str], sequence: int) -> None:
        await asyncio.gather(*(self.send(call_id, sequence) for call_id in calls))


@asynccontextmanager
async def balanced(*ports: int) -> AsyncIterator[Balancer]:
    """HAProxy with the configuration of the documentation before servers on *ports*."""
    (own,) = free_ports(1)
    places = {f"BALANCER_NODE_{number}": f"127.0.0.1:{port}" for number, port in enumerate(ports, 1)}
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "-db", "-f", str(ROOT / "docs" / "haproxy.cfg")),
        env={**os.environ, **places, "BALANCER_BIND": f"127.0.0.1:{own}"},
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", own)
                writer.close()
                break
            assert process.returncode is None, "haproxy does not start"
            await asyncio.sleep(0.01)
        async with ClientSession() as session:
            yield Balancer(f"http://127.0.0.1:{own}", session)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.fixture
async def nodes(dsn: str) -> AsyncIterator[list[Node]]:
    """Three servers of one cluster."""
    async with nats_server() as nats:
        three = [Node(dsn, nats, f"node-{port}", port) for port in free_ports(3)]
        for node in three:
            await node.start()
        yield three
        for node in three:
            await node.stop()


@pytest.fixture
async def balancer(nodes: list[Node]) -> AsyncIterator[Balancer]:
    async with balanced(*(node.port for node in nodes)) as started:
        yield started


CALLS = [f"call:{number}" for number in range(30)]


async def test_every_request_of_a_call_comes_to_the_server_that_has_it(
    nodes: list[Node], balancer: Balancer, sql: Sql
) -> None:
    for sequence in (1, 2):
        await balancer.send_all(CALLS, sequence)
    for call_id in CALLS:
        escaped = call_id.replace(":", "%3A")
        read = URL(f"{balancer.url}/v1/call/{escaped}", encoded=True)
        async with balancer.session.get(read) as response:
            assert response.status == 200
        complete = URL(f"{balancer.url}/v1/call/complete/{escaped}", encoded=True)
        async with balancer.session.post(complete) as response:
            assert response.status == 202
    assert all(node.counts.claimed > 0 for node in nodes), "each has some"
    assert sum(node.counts.asked for node in nodes) == len(CALLS), "only for calls that nobody had"
    assert [node.counts.answered for node in nodes] == [0, 0, 0]
    assert await sql.fetchval("select max(epoch) from calls") == 1


async def test_sockets_come_through_and_to_their_calls(nodes: list[Node], balancer: Balancer) -> None:
    await balancer.send_all(CALLS, 1)
    async with balancer.session.ws_connect(f"{balancer.url}/ws/supervisor") as watching:
        for call_id in CALLS:
            async with balancer.session.ws_connect(f"{balancer.url}/v1/call/stream/{call_id}") as sending:
                await sending.send_json({"sequence": 2, "data": "x", "timestamp": 1.0})
                assert (await sending.receive_json())["type"] == "ack"
        async with balancer.session.post(f"{balancer.url}/v1/call/complete/{CALLS[0]}") as response:
            assert response.status == 202
        while (await watching.receive_json()).get("state") != "COMPLETED":
            pass
    assert [node.counts.answered for node in nodes] == [0, 0, 0]


async def test_what_a_draining_server_refuses_goes_to_another(nodes: list[Node], balancer: Balancer) -> None:
    nodes[0].system.drain()
    await balancer.send_all(CALLS, 1)
    assert sum(node.counts.claimed for node in nodes[1:]) == len(CALLS)


async def test_a_server_that_goes_moves_only_its_calls_and_one_that_comes_back_moves_none(
    nodes: list[Node], balancer: Balancer, sql: Sql
) -> None:
    await balancer.send_all(CALLS, 1)
    gone, *others = nodes
    own = [call_id for call_id in CALLS if gone.system.has(call_id)]
    assert own
    await gone.stop()
    await balancer.send_all(CALLS, 2)
    moved = await sql.fetch("select call_id from calls where epoch > 1 order by call_no")
    assert sorted(record["call_id"] for record in moved) == sorted(own)

    await gone.start()
    while not gone.counts.asked:  # HAProxy looks whether it is ready
        await balancer.send(own[0], 2)
    answered = sum(node.counts.answered for node in others)
    await balancer.send_all(CALLS, 3)
    assert sum(node.counts.answered for node in others) == answered + len(own), "they cost a hop, and stay"
    assert gone.system.resident == 0
    assert await sql.fetchval("select max(epoch) from calls") == 2
    assert await sql.fetchval("select count(*) from packets") == 3 * len(CALLS)


async def test_nobody_that_is_ready_is_told_as_a_server_would() -> None:
    async with (
        balanced(*free_ports(3)) as balancer,
        balancer.session.post(f"{balancer.url}/v1/call/complete/c") as response,
    ):
        assert (response.status, response.headers[hdrs.RETRY_AFTER]) == (503, "1")
        assert response.content_type == "application/problem+json"
        assert (await response.json())["status"] == 503


async def test_a_client_is_known_by_its_address_whatever_it_says(balancer: Balancer) -> None:
    lies = {hdrs.X_FORWARDED_FOR: "198.51.100.7", hdrs.FORWARDED: "for=198.51.100.7"}
    async with (
        ClientSession(connector=TCPConnector(local_addr=("127.0.0.2", 0))) as other,
        other.get(f"{balancer.url}/seen", headers=lies) as response,
    ):
        assert await response.json() == ["127.0.0.2", "127.0.0.2"]
