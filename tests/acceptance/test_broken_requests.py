"""Requests that break on the way, or are none: no 500, no traceback, and the server goes on."""

import asyncio
import gzip
import re
import signal
import socket
from typing import Any, Final

import pytest

from tests.acceptance.fixtures import Connect, Serve
from tests.acceptance.server import Server

STREAM: Final = "/v1/call/stream/c"
HEAD: Final = b"POST /v1/call/stream/c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
PACKET: Final = b'{"sequence": 1, "data": "x", "timestamp": 1.0}'
LENGTH: Final = b"Content-Length: %d\r\n" % len(PACKET)
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n"
GET: Final = b"GET /v1/call/c HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE: Final = (
    GET[:-2].replace(b"call/c", b"call/stream/c") + b"Connection: upgrade\r\nUpgrade: websocket\r\n"
)


def whole(call_id: bytes, content: bytes) -> bytes:
    """Return a request that is right."""
    return (
        HEAD.replace(b"stream/c", b"stream/" + call_id)
        + b"Content-Length: %d\r\n\r\n" % len(content)
        + content
    )


BROKEN: Final = {
    "two lengths": HEAD + LENGTH + b"Content-Length: 5\r\n\r\n" + PACKET,
    "the same length twice": HEAD + LENGTH * 2 + b"\r\n" + PACKET,
    "list of lengths": HEAD + b"Content-Length: 46, 46\r\n\r\n" + PACKET,
    "length and chunked": HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
    "chunked and length": CHUNKED + LENGTH + b"\r\n0\r\n\r\n" + GET,
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked before gzip": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "unknown transfer encoding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "length -1": HEAD + b"Content-Length: -1\r\n\r\n",
    "length +46": HEAD + b"Content-Length: +46\r\n\r\n" + PACKET,
    "length 4_6": HEAD + b"Content-Length: 4_6\r\n\r\n" + PACKET,
    "length many": HEAD + b"Content-Length: many\r\n\r\n",
    "length of 30 digits": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "space before a colon": HEAD + b"Content-Length : 46\r\n\r\n" + PACKET,
    "two hosts": HEAD + b"Host: localhost\r\n" + LENGTH + b"\r\n" + PACKET,
    "no host": HEAD.replace(b"Host: localhost\r\n", b"") + LENGTH + b"\r\n" + PACKET,
    "LF only": (HEAD + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + PACKET,
    "HTTP/3.7": HEAD.replace(b"1.1", b"3.7") + LENGTH + b"\r\n" + PACKET,
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "chunk of no number": CHUNKED + b"\r\nzz\r\n",
    "chunk of -1": CHUNKED + b"\r\n-1\r\n",
    "chunk of 2^72": CHUNKED + b"\r\n" + b"f" * 18 + b"\r\n",
    "chunk longer than it says": CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n",
    "chunks with LF only": CHUNKED + b"\r\n1\n{\n0\n\n",
    "header without a colon": HEAD + b"Nothing\r\n\r\n",
    "header without a name": HEAD + b": x\r\n\r\n",
    "header of a wrong name": HEAD + b"X(y): x\r\n\r\n",
    "folded header": HEAD + b"X: x\r\n y\r\n\r\n",
    "NUL in a header": HEAD + b"X: x\x00\r\n\r\n",
    "CR in a header": HEAD + b"X: x\ry\r\n\r\n",
    "header of 9 kB": HEAD + b"X: " + b"y" * 9_000 + b"\r\n\r\n",
    "header of 100 kB": HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    "200 headers": HEAD + b"".join(b"X%d: x\r\n" % n for n in range(200)) + b"\r\n",
    "10,000 headers": HEAD + b"".join(b"X%d: x\r\n" % n for n in range(10_000)) + b"\r\n",
    "path of 20 kB": GET.replace(b"call/c", b"call/" + b"c" * 20_000),
    "call id of 9 kB": HEAD.replace(b"stream/c", b"stream/" + b"c" * 9_000) + LENGTH + b"\r\n" + PACKET,
    "path in UTF-8": GET.replace(b"call/c", b"call/caf\xc3\xa9"),
    "space in a path": GET.replace(b"call/c", b"call/c d"),
    "path without a slash": GET.replace(b"/v1", b"v1"),
    "URL that is none": GET.replace(b"/v1", b"http://[::1/v1"),
    "wrong method": GET.replace(b"GET", b"G@T"),
    "unknown method": GET.replace(b"GET", b"BREW"),
    "method in lower case": GET.replace(b"GET", b"get"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "NULs": b"\x00" * 100,
    "a packet without HTTP": PACKET + b"\r\n\r\n",
}
UNFINISHED: Final = {
    "nothing": b"",
    "blank lines": b"\r\n\r\n\r\n",
    "head": HEAD,
    "body that breaks off": HEAD + LENGTH + b"\r\n" + PACKET[:-1],
    "chunk of 2^60 bytes": CHUNKED + b"\r\n" + b"f" * 15 + b"\r\n" + PACKET,
    "chunk without an end": CHUNKED + b"\r\n%x\r\n" % len(PACKET) + PACKET + b"\r\n",
    "endless chunk extension": CHUNKED + b"\r\n1;" + b"x" * 100_000,
}
ODD: Final = {
    "HTTP/1.0": (HEAD.replace(b"1.1", b"1.0") + LENGTH + b"\r\n" + PACKET, b"202"),
    "whole URL": (GET.replace(b"/v1/call/c", b"http://localhost/v1/call/nobody"), b"404"),
    "Expect": (HEAD + LENGTH + b"Expect: foo\r\n\r\n" + PACKET, b"417"),
    "OPTIONS *": (GET.replace(b"GET /v1/call/c", b"OPTIONS *"), b"404"),
    "no body": (HEAD + b"\r\n", b"400"),
    "upgrade without a key": (UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n", b"426"),
    "upgrade with a wrong key": (
        UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n",
        b"426",
    ),
    "upgrade of an old version": (UPGRADE + b"Sec-WebSocket-Version: 1\r\n\r\n", b"426"),
    "upgrade to another protocol": (
        GET.replace(b"call/c", b"stats")[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"200",
    ),
}


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


async def converse(server: Server, sent: bytes, answers: int) -> tuple[bytes, bool]:
    """Send *sent* and leave the connection open; return what comes back, and whether the server closes it.

    Wait for so many answers, then only a little for more.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answer = b""
    try:
        writer.write(sent)
        while True:
            async with asyncio.timeout(0.2 if len(find_statuses(answer)) >= answers else 10):
                some = await reader.read(2**16)
            if not some:
                return answer, True
            answer += some
    except ConnectionError:
        return answer, True
    except TimeoutError:
        return answer, False
    finally:
        writer.close()


def find_statuses(answer: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", answer)


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


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
async def test_request_that_is_framed_wrong_gets_400_and_no_other_on_its_connection(
    shared: Server, connect: Connect, sent: bytes
) -> None:
    answer, is_closed = await converse(shared, sent, answers=2)
    assert (find_statuses(answer), is_closed) == ([b"400"], True), answer[:300]
    client = connect(shared)
    assert (await client.request("GET", "/v1/call/c")).status == 404
    assert (await client.send("good", 1)).status == 202


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
async def test_request_that_does_not_end_is_waited_for_and_stores_nothing(
    shared: Server, connect: Connect, sent: bytes
) -> None:
    assert await exchange(shared, sent) == b""
    client = connect(shared)
    assert (await client.request("GET", "/v1/call/c")).status == 404
    assert (await client.send("good", 1)).status == 202


@pytest.mark.parametrize(("sent", "status"), ODD.values(), ids=ODD)
async def test_odd_request_gets_one_answer(
    shared: Server, connect: Connect, sent: bytes, status: bytes
) -> None:
    answer, _ = await converse(shared, sent.replace(b"stream/c ", b"stream/odd "), answers=1)
    assert find_statuses(answer) == [status], answer[:300]
    assert (await connect(shared).send("good", 1)).status == 202


async def test_requests_in_one_piece_are_answered_in_order(shared: Server) -> None:
    pieces = [whole(b"pipelined", b'{"sequence":%d,"data":"x","timestamp":1}' % n) for n in (1, 2, -1, 3, 2)]
    answer, is_closed = await converse(shared, b"".join(pieces), answers=5)
    assert find_statuses(answer) == [b"202", b"202", b"422", b"202", b"202"]
    assert re.findall(rb'"sequence":(\d+)', answer) == [b"1", b"2", b"3", b"2"]
    assert not is_closed


async def test_nothing_behind_a_broken_request_is_read(shared: Server, connect: Connect) -> None:
    pieces = [
        whole(b"behind", PACKET),
        whole(b"behind", PACKET).replace(b"Content-Length: ", b"Content-Length: -"),
        whole(b"behind2", PACKET),
    ]
    answer, is_closed = await converse(shared, b"".join(pieces), answers=3)
    assert (find_statuses(answer)[-1], is_closed) == (b"400", True)
    assert (await connect(shared).request("GET", "/v1/call/behind2")).status == 404


async def test_a_client_that_hung_up_before_its_websocket_was_answered_is_no_fault(
    shared: Server, connect: Connect
) -> None:
    handshake = UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    shared.signal(signal.SIGSTOP)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", shared.port)) as client:
            client.sendall(handshake)
    shared.signal(signal.SIGCONT)
    assert (await connect(shared).send("good", 1)).status == 202
    shared.check_log()
