"""What those do that the server speaks with: senders, supervisors, the AI provider."""

import asyncio
import json
import socket
from asyncio import StreamWriter
from typing import Final

from callactors.call_actor import MAX_FAILURES
from tests.acceptance.client import Client
from tests.acceptance.supervisor import Supervisor
from tests.faults.evidence import Expected
from tests.faults.scene import Nemesis, Scene, now
from tests.faults.workload import Item, make_item

POISON: Final = "poison"
_AWAY: Final = 1.5
_DEAD_ENDS: Final = 40
_STORM: Final = 150
_ABORTED: Final = 40
_PROGRESS: Final = Expected(progress=50)
_HANDSHAKE: Final = (
    b"GET /ws/supervisor?snapshot=1&kinds=attempt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def lose_provider(scene: Scene) -> None:
    """Let the AI provider refuse everything for some time."""
    async with scene.fault():
        scene.provider.is_away = True
        await asyncio.sleep(_AWAY)
        scene.provider.is_away = False


async def crowd(scene: Scene) -> None:
    """Connect supervisors that never read, and a crowd that comes and is gone again at once."""
    async with scene.fault():
        dead_ends = [await _connect(scene, receives=4096) for _ in range(_DEAD_ENDS)]
        for writer in dead_ends:
            writer.write(_HANDSHAKE)
        async with Client(scene.server) as client:
            await asyncio.gather(*(_come_and_go(client) for _ in range(_STORM)))
        for writer in dead_ends:
            writer.transport.abort()


async def _come_and_go(client: Client) -> None:
    supervisor = await Supervisor(client).connect(snapshot="1")
    await supervisor.next()
    supervisor.abort()


async def abort_requests(scene: Scene) -> None:
    """Let senders hang up in the middle of a body, and behind it before the answer."""
    call_id = f"aborted-{scene.faults}"
    async with scene.fault(), Client(scene.server, scene.history) as client:
        await client.deliver(call_id, 1)
        for sequence in range(2, 2 + _ABORTED):
            item = make_item(call_id, "", sequence)
            scene.history.begin(-1, "packet", call_id, [item], now())
            writer = await _connect(scene)
            request = _request(item)
            writer.write(request if sequence % 2 else request[: -scene.rng.randint(1, 40)])
            await writer.drain()
            await asyncio.sleep(scene.rng.uniform(0, 0.01))
            writer.transport.abort()
        await client.finish(call_id)


def _request(item: Item) -> bytes:
    key, content = item
    body = json.dumps({"sequence": key.sequence, "data": content.data, "timestamp": content.timestamp})
    head = f"POST /v1/call/stream/{key.call_id} HTTP/1.1\r\nHost: localhost\r\n"
    rest = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    return (head + rest).encode()


async def _connect(scene: Scene, *, receives: int | None = None) -> StreamWriter:
    sock = socket.socket()
    if receives is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", scene.server.port))
    _, writer = await asyncio.open_connection(sock=sock, limit=1024)
    return writer


async def poison(scene: Scene) -> None:
    """Send a packet that makes the call's actor fail whenever it comes, until the call is ended for it."""
    call_id = f"poisoned-{scene.faults}"
    scene.history.completes_sent.add(call_id)
    async with scene.fault(), Client(scene.server, scene.history) as client:
        await client.deliver(call_id, 1)
        for _ in range(MAX_FAILURES + 1):
            reply = await client.send(call_id, 2, POISON)
            assert (reply.status, reply.slug) == (503, "actor-restarted"), reply
        told = await client.call(call_id)
        assert (told["state"], told["end_reason"]) == ("FAILED", "poison"), told


NEMESES: Final = (
    Nemesis(name="provider", strike=lose_provider, expected=_PROGRESS),
    Nemesis(name="crowd", strike=crowd, expected=_PROGRESS),
    Nemesis(name="aborted", strike=abort_requests, expected=_PROGRESS),
    Nemesis(
        name="poison",
        strike=poison,
        extra={"FAULTS_POISON": POISON},
        known=r"RuntimeError|failed and is restarted",
        expected=_PROGRESS,
    ),
)
