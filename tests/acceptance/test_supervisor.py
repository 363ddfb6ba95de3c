"""Supervisors over real WebSockets see every transition once and in order, and none holds up another."""

import asyncio
import base64
import json
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from callactors.store.binaries import find_binaries
from tests.acceptance.fixtures import Check, Connect, Serve, Watch
from tests.acceptance.history import Sql
from tests.acceptance.postgres import ComingAndGoing
from tests.acceptance.server import Server
from tests.acceptance.supervisor import Supervisor

HANDSHAKE = (
    "GET /ws/supervisor HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FLOOD = """
insert into call_events (call_no, version, call_id, kind, from_state, to_state, attempt, detail)
select $1, n, 'flood', 'transition', 'FAILED', 'PROCESSING_AI', 1,
    jsonb_build_object('pad', repeat('x', 4000))
from generate_series($2::bigint, $3::bigint) n
"""


def states(supervisor: Supervisor, call_id: str) -> list[str]:
    return [event["state"] for event in supervisor.events if event["call_id"] == call_id]


async def test_supervisor_sees_a_call_from_beginning_to_archive(
    shared: Server, connect: Connect, watch: Watch
) -> None:
    client = connect(shared)
    supervisor = await watch(client)
    await client.send("whole", 1)
    await client.complete("whole", reason="stream_stopped")
    await supervisor.wait_for("ARCHIVED", "whole")
    assert states(supervisor, "whole") == ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "ARCHIVED"]
    assert supervisor.frames == supervisor.events  # attempts are told on request only
    versions = [event["version"] for event in supervisor.events]
    assert versions == sorted(set(versions))
    assert len({event["cursor"] for event in supervisor.events}) == 4
    first, second = supervisor.events[0], supervisor.events[1]
    assert first.keys() == {"type", "call_id", "state", "from", "version", "attempt", "at", "cursor"}
    assert (first["type"], first["from"], first["version"], first["attempt"]) == ("event", None, 1, 0)
    assert (second["from"], second["end_reason"]) == ("IN_PROGRESS", "stream_stopped")
    assert [event["at"] for event in supervisor.events] == sorted(event["at"] for event in supervisor.events)
    assert first["at"].endswith("Z")


async def test_supervisor_sees_a_call_fail_after_four_attempts(
    serve: Serve, connect: Connect, watch: Watch, check_calls: Check
) -> None:
    client = connect(await serve(flaky_failure_rate=1, retry_initial=0.01))
    supervisor = await watch(client)
    await client.send("c", 1)
    await client.complete("c")
    await supervisor.wait_for("FAILED", "c")
    assert states(supervisor, "c") == ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "FAILED"]
    failed = supervisor.events[-1]
    assert failed["attempt"] == 4
    assert failed["last_error"] == {"attempt": 4, "reason": "the simulated AI service failed"}
    assert (await client.call("c"))["last_error"]["attempt"] == 4
    await check_calls(client)


async def test_client_that_comes_back_with_its_cursor_misses_nothing_and_repeats_nothing(
    serve: Serve, connect: Connect, watch: Watch, sql: Sql
) -> None:
    server = await serve(flaky_failure_rate=0.3)
    client = connect(server)
    calls = [f"call-{n}" for n in range(30)]
    supervisor = await watch(client)
    for call_id in calls[:10]:
        await client.send(call_id, 1)
        await client.complete(call_id)
    await supervisor.wait_for_end(*calls[:5])
    cursor = supervisor.cursor
    for end, some in ((signal.SIGTERM, calls[10:20]), (signal.SIGKILL, calls[20:])):
        for call_id in some:
            await client.send(call_id, 1)
            await client.complete(call_id)
        await supervisor.close()
        server.signal(end)
        await server.wait()
        await server.start()
        await supervisor.connect(since=cursor)
        await supervisor.next()
        cursor = supervisor.cursor
    await supervisor.wait_for_end(*calls)
    assert {frame["type"] for frame in supervisor.frames} <= {"event", "bookmark"}
    seen = [(event["call_id"], event["version"]) for event in supervisor.events]
    logged = await sql.fetch(
        "select call_id, version from call_events where kind = 'transition' order by xid, event_id"
    )
    assert seen == [tuple(row) for row in logged]


async def test_cursor_of_the_beginning_replays_the_whole_log(
    shared: Server, connect: Connect, watch: Watch, sql: Sql
) -> None:
    client = connect(shared)
    first = await watch(client)
    for n in range(20):
        await client.send(f"call-{n}", 1)
        await client.complete(f"call-{n}", last_sequence={"": 1})
    await first.wait_for_end(*(f"call-{n}" for n in range(20)))
    second = await watch(client, first.frames[0]["cursor"])
    await second.wait_for_end(*(f"call-{n}" for n in range(1, 20)))
    assert second.events == first.events[1:]


async def test_cursor_of_another_log_is_told_as_a_gap(shared: Server, connect: Connect, watch: Watch) -> None:
    client = connect(shared)
    first = await watch(client)
    await client.send("c", 1)
    await first.wait_for("IN_PROGRESS", "c")
    log_id = "00000000-0000-0000-0000-000000000000"
    foreign = base64.urlsafe_b64encode(f"{log_id}/1/1".encode()).decode().rstrip("=")
    second = await watch(client, foreign)
    gap, live, ended = [await second.next() for _ in range(3)]
    assert gap is not None
    assert live is not None
    assert ended is not None
    assert (gap["type"], gap["reason"]) == ("gap", "unknown-log")
    assert (live["type"], ended["last"]) == ("snapshot", True)
    assert [call["call_id"] for call in live["calls"]] == ["c"]
    await client.send("d", 1)
    await second.wait_for("IN_PROGRESS", "d")
    assert [event["call_id"] for event in second.events] == ["d"]
    third = await watch(client, gap["cursor"])
    await third.wait_for("IN_PROGRESS", "d")
    assert third.events == second.events


async def run_binary(name: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(find_binaries() / name, *arguments)
    assert await process.wait() == 0


async def test_cursor_of_before_a_restore_is_told_as_a_gap(
    serve: Serve, connect: Connect, watch: Watch, sql: Sql, tmp_path: Path
) -> None:
    """Dump, go on, restore into the very same database, and come back with cursors of all three times."""
    server = await serve()
    client = connect(server)
    assert server.dsn is not None
    first = await watch(client)
    await client.send("kept", 1)
    await first.wait_for("IN_PROGRESS", "kept")
    dump = str(tmp_path / "dump")
    await run_binary("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={server.dsn}")
    await client.send("lost", 1)
    await first.wait_for("IN_PROGRESS", "lost")
    cursors = [event["cursor"] for event in first.events]
    await server.terminate()
    await run_binary("pg_restore", "--clean", "--single-transaction", f"--dbname={server.dsn}", dump)
    await server.start()
    for cursor in cursors:
        second = await watch(client, cursor)
        gap, live, ended = [await second.next() for _ in range(3)]
        assert gap is not None
        assert live is not None
        assert ended is not None
        assert (gap["type"], gap["reason"]) == ("gap", "unknown-log")
        assert [call["call_id"] for call in live["calls"]] == ["kept"]
    await client.send("new", 1)
    await second.wait_for("IN_PROGRESS", "new")
    assert [event["call_id"] for event in second.events] == ["new"]


async def test_supervisor_of_one_server_sees_the_calls_of_another_and_resumes_there(
    serve: Serve, connect: Connect, watch: Watch
) -> None:
    a, b = await serve(node="a"), await serve(node="b")
    on_a, on_b = connect(a), connect(b)
    supervisor = await watch(on_b)
    await on_a.send("c", 1)
    await on_a.complete("c")
    await supervisor.wait_for("ARCHIVED", "c")
    assert states(supervisor, "c") == ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "ARCHIVED"]
    moved = await watch(on_a, supervisor.events[1]["cursor"])
    await moved.wait_for("ARCHIVED", "c")
    assert moved.events == supervisor.events[2:]


async def test_supervisors_stay_while_the_database_is_away_and_catch_up(
    data_dir: Path, tmp_path: Path, connect: Connect, watch: Watch
) -> None:
    async with ComingAndGoing(data_dir.parent) as postgres, Server(tmp_path, dsn=postgres.dsn) as server:
        client = connect(server)
        supervisor, plain = await watch(client, snapshot="1"), await watch(client)
        await client.send("before", 1)
        await supervisor.wait_for("IN_PROGRESS", "before")
        await postgres.stop()
        degraded = await supervisor.wait_for_frame("degraded")
        assert degraded["reason"] == "storage-unavailable"
        late = await watch(client, supervisor.events[0]["cursor"])  # answered from memory
        assert (await late.wait_for_frame("degraded")) == degraded
        await postgres.start()
        await client.deliver("after", 1)
        await supervisor.wait_for_frame("recovered")
        for everybody in (supervisor, plain, late):
            await everybody.wait_for("IN_PROGRESS", "after")
        assert [event["call_id"] for event in plain.frames] == ["before", "after"]


async def test_garbage_as_a_cursor_is_refused(shared: Server, connect: Connect, watch: Watch) -> None:
    client = connect(shared)
    made_up = [
        base64.urlsafe_b64encode(text).decode() for text in (b"log/1/-2", b"log/1", b"log/a/b", b"\xff/1/2")
    ]
    for cursor in ("", "garbage", "////", "\0", "\u0661", "x" * 5_000, f"log/1/{2**63}", *made_up):
        reply = await client.request("GET", "/ws/supervisor", params={"since": cursor})
        assert (reply.status, reply.slug) == (422, "validation")
    with pytest.raises(aiohttp.WSServerHandshakeError, match="422"):
        await watch(client, "garbage")


async def connect_without_reading(server: Server) -> socket.socket:
    """Become a supervisor with a small window, and read only the answer to the handshake."""
    loop = asyncio.get_running_loop()
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.setblocking(False)
    await loop.sock_connect(peer, ("127.0.0.1", server.port))
    await loop.sock_sendall(peer, HANDSHAKE.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await loop.sock_recv(peer, 1)
    assert answer.startswith(b"HTTP/1.1 101")
    return peer


async def read_to_end(peer: socket.socket) -> bytes:
    received = bytearray()
    async with asyncio.timeout(30):
        try:
            while part := await asyncio.get_running_loop().sock_recv(peer, 65_536):
                received += part
        except ConnectionResetError:
            pass
    return bytes(received)


async def test_client_that_never_reads_is_cut_off_and_the_others_get_everything(
    serve: Serve, connect: Connect, watch: Watch, sql: Sql
) -> None:
    server = await serve()
    client = connect(server)
    good = await watch(client)
    bad = await connect_without_reading(server)
    with bad:
        for last in range(300, 4_501, 300):  # 18 MB, more than the kernel and the server will hold for one
            await sql.execute(FLOOD, 0, last - 299, last)
            await client.send(f"poke-{last}", 1)
            await good.wait_for("IN_PROGRESS", f"poke-{last}")
        flood = [event["version"] for event in good.events if event["call_id"] == "flood"]
        assert flood == list(range(1, 4_501))
        async with asyncio.timeout(30):
            while "does not keep up" not in server.log:  # noqa: ASYNC110  # another process says so
                await asyncio.sleep(0.1)
        received = await read_to_end(bad)
    assert received.count(b'"flood"') < 4_500


async def test_sockets_are_closed_with_1012_at_once_when_the_server_stops(
    serve: Serve, connect: Connect, watch: Watch
) -> None:
    server = await serve()
    client = connect(server)
    supervisors = [await watch(client) for _ in range(20)]
    silent = await connect_without_reading(server)
    await client.send("c", 1)
    await asyncio.gather(*(supervisor.wait_for("IN_PROGRESS", "c") for supervisor in supervisors))
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    server.signal(signal.SIGTERM)
    codes = await asyncio.gather(*(supervisor.read_to_close() for supervisor in supervisors))
    assert codes == [1012] * 20
    with silent:
        assert await server.wait() == 0
    assert loop.time() - asked_at < 3


async def test_what_a_supervisor_says_of_other_things_is_ignored(shared: Server, connect: Connect) -> None:
    client = connect(shared)
    async with client.session.ws_connect(f"{client.url}/ws/supervisor") as ws:
        await ws.send_str("{}")
        await ws.send_str('{"type": "later"}')
        await ws.ping()
        await client.send("ignored", 1)
        message = await ws.receive(timeout=10)
        assert json.loads(message.data)["call_id"] == "ignored"
