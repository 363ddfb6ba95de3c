"""Requests that break on the way, or are none: no 500, no traceback, and the server goes on."""

import asyncio
import gzip
from typing import Any, Final

from tests.acceptance.fixtures import Connect, Serve
from tests.acceptance.server import Server

STREAM: Final = "/v1/call/stream/c"
HEAD: Final = b"POST /v1/call/stream/c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PACKET: Final = b'{"sequence": 1, "data": "x", "timestamp": 1.0}'


def as_gzip(content: bytes) -> dict[str, Any]:
    return {"data": content, "headers": {"Content-Type": "application/json", "Content-Encoding": "gzip"}}


async def exchange(server: Server, sent: bytes) -> bytes:
    """Send *sent* as it is, say that nothing follows, and return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_packed_body_is_refused_whatever_is_in_it(serve: Serve, connect: Connect) -> None:
    client = connect(await serve())
    for content in (
        gzip.compress(PACKET),
        gzip.compress(b" " * 3_000_000),
        gzip.compress(PACKET)[:-10],
        PACKET,
    ):
        reply = await client.request("POST", STREAM, **as_gzip(content))
        assert (reply.status, reply.slug) == (415, "unsupported-media-type")


async def test_sender_that_hangs_up_in_the_middle_of_its_body_leaves_no_traceback(
    serve: Serve, connect: Connect
) -> None:
    server = await serve()
    for _ in range(3):
        assert await exchange(server, HEAD + b"Content-Length: 100\r\n\r\n{") == b""
    assert (await connect(server).send("c", 1)).status == 202


async def test_bytes_that_are_no_http_do_no_harm(shared: Server, connect: Connect) -> None:
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"Content-Length: many\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        HEAD + b"\r\n",
    ):
        answer = await exchange(shared, sent)
        assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.0 400"), (sent[:60], answer[:300])
    assert (await connect(shared).send("c", 1)).status == 202
