"""PostgreSQL goes away under load: the server says so, stays up, goes on by itself, and loses nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from tests.acceptance.checker import check
from tests.acceptance.client import Client
from tests.acceptance.fixtures import Connect, Watch
from tests.acceptance.history import read_stored
from tests.acceptance.postgres import ComingAndGoing
from tests.acceptance.server import QUICK, Server
from tests.acceptance.supervisor import Supervisor
from tests.acceptance.waiting import always, eventually

CALLS = [f"call-{n}" for n in range(20)]


@pytest.fixture
async def storage(data_dir: Path) -> AsyncIterator[ComingAndGoing]:
    async with ComingAndGoing(data_dir.parent) as storage:
        yield storage


@pytest.fixture
async def server(storage: ComingAndGoing, tmp_path: Path) -> AsyncIterator[Server]:
    settings = {**QUICK, "unsafe_durability": 0, "flaky_failure_rate": 0.3}
    async with Server(tmp_path, dsn=storage.dsn, settings=settings) as server:
        yield server


class Scene:
    """Senders at work, each on a call of its own, until they are told that it is over."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._over = asyncio.Event()

    async def send(self, call_id: str) -> None:
        sequence = 0
        while not self._over.is_set():
            sequence += 1
            await self.client.deliver(call_id, sequence)
        await self.client.finish(call_id, last_sequence={"": sequence})

    async def until_stored(self, count: int) -> None:
        """Return when so many packets more were acknowledged."""
        wanted = len(self.client.history.acked) + count

        async def is_stored() -> bool:
            return len(self.client.history.acked) >= wanted

        await eventually(is_stored)

    async def is_ready(self) -> bool:
        return (await self.client.request("GET", "/ready")).status == 200

    async def is_alive_but_not_ready(self) -> bool:
        health = await self.client.request("GET", "/health")
        return health.status == 200 and not await self.is_ready()

    def end(self) -> None:
        self._over.set()


async def check_all(client: Client, storage: ComingAndGoing, supervisor: Supervisor) -> None:
    await supervisor.wait_for_end(*CALLS)
    sql = await asyncpg.connect(storage.dsn)
    try:
        report = check(client.history, await read_stored(sql))
    finally:
        await sql.close()
    assert not report.findings, f"\n{report.table()}"
    assert report.archived + report.failed == len(CALLS)
    seen = [(event["call_id"], event["version"]) for event in supervisor.events]
    assert len(seen) == len(set(seen))


async def test_outage_of_ten_seconds_under_load_is_told_and_loses_nothing(
    storage: ComingAndGoing, server: Server, connect: Connect, watch: Watch
) -> None:
    client = connect(server)
    supervisor = await watch(client)
    scene, pid = Scene(client), server.pid
    async with asyncio.TaskGroup() as senders:
        for call_id in CALLS[:-1]:
            senders.create_task(scene.send(call_id))
        await scene.until_stored(200)
        await client.deliver(CALLS[-1], 1)
        await client.finish(CALLS[-1])  # its grace ends while there is no database
        await storage.stop()
        await eventually(scene.is_alive_but_not_ready)
        await always(scene.is_alive_but_not_ready, during=10)
        await storage.start()
        await eventually(scene.is_ready)
        await scene.until_stored(200)
        scene.end()
    assert client.refusals.keys() == {"storage-unavailable"}
    assert server.pid == pid
    assert server.is_running
    await check_all(client, storage, supervisor)


async def test_postgres_killed_under_load_loses_nothing(
    storage: ComingAndGoing, server: Server, connect: Connect, watch: Watch
) -> None:
    client = connect(server)
    supervisor = await watch(client)
    scene = Scene(client)
    async with asyncio.TaskGroup() as senders:
        for call_id in CALLS:
            senders.create_task(scene.send(call_id))
        for _ in range(2):
            await scene.until_stored(200)
            await storage.kill()
            await storage.start()
        await scene.until_stored(200)
        scene.end()
    assert client.refusals.keys() <= {"storage-unavailable"}
    await check_all(client, storage, supervisor)


async def test_idle_server_without_its_database_is_alive_but_not_ready(
    dsn: str, data_dir: Path, tmp_path: Path, connect: Connect
) -> None:
    link = data_dir.parent / "socket"
    directory = parse_qs(urlsplit(dsn).query)["host"][0]
    link.symlink_to(directory)
    name = urlsplit(dsn).path
    by_link = f"postgresql://callactors@{name}?host={link}&port=5432"
    async with Server(tmp_path, dsn=by_link, settings={**QUICK, "ack_timeout": 0.5}) as server:
        client = connect(server)
        scene = Scene(client)
        await client.send("c", 1)
        assert await scene.is_ready()
        link.unlink()
        admin = await asyncpg.connect(dsn, database="postgres")
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            name.removeprefix("/"),
        )
        await admin.close()
        await eventually(scene.is_alive_but_not_ready)
        reply = await client.request("GET", "/v1/call/c")
        assert (reply.status, reply.slug) == (503, "storage-unavailable")
        link.symlink_to(directory)
        await eventually(scene.is_ready)
        assert (await client.call("c"))["packets"] == 1
