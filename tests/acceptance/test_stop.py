"""The server stops, in order or not, while clients send: nothing acknowledged is lost or stored twice."""

import asyncio
import signal
import socket
import struct
from pathlib import Path

import asyncpg

from callactors.store.embedded import EmbeddedPostgres
from tests.acceptance.checker import Report, check
from tests.acceptance.client import NO_ANSWER, Client
from tests.acceptance.fixtures import Check, Connect, Serve
from tests.acceptance.history import Content, Key, Sql, read_stored
from tests.acceptance.server import QUICK, Server
from tests.acceptance.waiting import eventually

CALLS = [f"call-{n}" for n in range(30)]
DEADLINE = 15.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


async def send_until_nobody_answers(client: Client, call_id: str) -> None:
    sequence = 0
    while True:
        sequence += 1
        try:
            await client.send(call_id, sequence)
        except NO_ANSWER:
            return


async def until_acked(client: Client, count: int) -> None:
    async def are_acked() -> bool:
        return len(client.history.acked) >= count

    await eventually(are_acked)


async def test_stop_under_load_stores_all_that_was_acked_and_refuses_the_rest(
    serve: Serve, connect: Connect, check_calls: Check, sql: Sql
) -> None:
    server = await serve(flaky_latency_min=60, flaky_latency_max=60)
    client = connect(server)
    await client.send("processed", 1)
    await client.complete("processed", last_sequence={"": 1})
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as senders:
        for call_id in CALLS:
            senders.create_task(send_until_nobody_answers(client, call_id))
        await until_acked(client, 500)
        server.signal(signal.SIGTERM)
        assert await server.wait() == 0
    assert client.refusals.keys() <= {"draining"}
    assert await sql.fetchval("select count(*) from calls where owner is not null") == 0
    await check_stored(client, sql)
    await server.start({"flaky_latency_min": 0, "flaky_latency_max": 0})
    for call_id in CALLS:
        await client.complete(call_id)

    async def have_ended() -> bool:
        return bool(
            await sql.fetchval("select count(*) = $1 from calls where state = 'ARCHIVED'", len(CALLS) + 1)
        )

    await eventually(have_ended)
    phases = await sql.fetch(
        "select detail->>'phase' || ' ' || attempt from call_events"
        " where call_id = 'processed' and kind = 'attempt' order by version"
    )
    assert [row[0] for row in phases] == ["started 1", "given back 1", "started 1", "succeeded 1"]
    await check_calls(client)


async def check_stored(client: Client, sql: Sql) -> None:
    """Compare packets only: calls that were completed go on later."""
    report = check(client.history, await read_stored(sql))
    assert report.findings.keys() <= {"not_ended"}, f"\n{report.table()}"


async def test_sender_that_hangs_up_before_its_202_may_send_again(
    serve: Serve, connect: Connect, check_calls: Check
) -> None:
    server = await serve()
    client = connect(server)
    await asyncio.gather(*(post_and_hang_up(server, client, n) for n in range(1, 101)))
    replies = [await client.send("c", n) for n in range(1, 101)]
    assert [reply.status for reply in replies] == [202] * 100
    assert any(reply.body["duplicate"] for reply in replies)
    assert (await client.call("c"))["packets"] == 100
    await check_calls(client)


async def post_and_hang_up(server: Server, client: Client, sequence: int) -> None:
    """Send a whole request and go: every other time with a reset."""
    key = Key("c", "", sequence)
    content = Content(f"c//{sequence}", 1.0)
    client.history.send(key, content)
    text = f'{{"sequence": {sequence}, "data": "{content.data}", "timestamp": 1.0}}'
    head = (
        "POST /v1/call/stream/c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write((head + text).encode())
    await writer.drain()
    if sequence % 2:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()


async def test_kill_of_a_server_with_its_own_postgres_loses_nothing(
    connect: Connect, data_dir: Path, tmp_path: Path
) -> None:
    settings = {**QUICK, "unsafe_durability": 0, "grace": 1}
    async with Server(tmp_path, "--data-dir", str(data_dir), settings=settings) as server:
        client = connect(server)
        async with asyncio.TaskGroup() as senders:
            for call_id in CALLS:
                senders.create_task(send_until_nobody_answers(client, call_id))
            await until_acked(client, 300)
            for call_id in CALLS[:5]:
                await client.complete(call_id)
            await server.kill()
        await server.start()
        for call_id in CALLS:
            await client.complete(call_id)

        async def have_ended() -> bool:
            return all([(await client.call(call_id))["state"] == "ARCHIVED" for call_id in CALLS])

        await eventually(have_ended)
        counts = {call_id: (await client.call(call_id))["packets"] for call_id in CALLS}
    report = await check_data_dir(client, data_dir, counts)
    assert not report.findings, f"\n{report.table()}"
    assert report.archived == len(CALLS)


async def check_data_dir(client: Client, data_dir: Path, counts: dict[str, int]) -> Report:
    async with EmbeddedPostgres(data_dir=data_dir) as postgres:
        sql = await asyncpg.connect(postgres.dsn)
        try:
            return check(client.history, await read_stored(sql), counts)
        finally:
            await sql.close()
