"""What a call is about is told to nobody who has not asked for it."""

import asyncio
from typing import Any

import pytest

from tests.acceptance.fixtures import Connect, Serve

CANARY = "kanarienvogel"


@pytest.mark.parametrize("log_format", ["human", "json"])
async def test_packet_data_is_in_no_answer_and_in_no_log(
    serve: Serve, connect: Connect, log_format: str
) -> None:
    server = await serve(attempt_timeout=1, log_format=log_format, log_level="debug")
    client = connect(server)
    sent = {"sequence": 1, "data": CANARY, "timestamp": 1.0}
    bodies: list[Any] = [
        sent,
        sent,
        {**sent, "data": f"another {CANARY}"},
        {**sent, "sequence": 9},
        {**sent, "sequence": CANARY},
        {**sent, "timestamp": CANARY},
        {**sent, "stream": f"{CANARY}\0"},
        {**sent, "data": f"{CANARY}\0"},
        {**sent, "data": [CANARY]},
        {**sent, "data": CANARY * 30_000},
        {"data": CANARY},
        [CANARY],
        CANARY,
    ]
    path = "/v1/call/stream/c"
    told = [await client.request("POST", path, json=body) for body in bodies]
    raw = [b'{"data": "%s' % CANARY.encode(), b'{"data": "%s", "x": \xff}' % CANARY.encode(), CANARY.encode()]
    for headers in ({"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}):
        told += [await client.request("POST", path, data=body, headers=headers) for body in raw]
    told.append(
        await client.request("POST", "/v1/call/complete/c", json={"metadata": CANARY, "reason": CANARY})
    )
    async with client.session.ws_connect(f"{server.url}/v1/call/stream/c") as ws:
        for frame in (CANARY, f'{{"data": "{CANARY}"}}', f'{{"type": "complete", "reason": "{CANARY}"}}'):
            await ws.send_str(frame)
            while (answer := await ws.receive_json())["type"] != "ack":
                assert CANARY not in str(answer)
    pages = ("/ready", "/metrics", "/v1/stats", "/v1/call/c", "/v1/call/c/events", "/v1/calls")
    told += [await client.request("GET", page) for page in pages]
    for raw_request in (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX {CANARY}\r\n\r\n",
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(raw_request.encode())
        assert (await reader.read()).startswith(b"HTTP/1")
        writer.close()
    assert not [reply for reply in told if CANARY in str(reply.body)]
    assert not [reply for reply in told if reply.status >= 500]
    assert CANARY not in server.log
