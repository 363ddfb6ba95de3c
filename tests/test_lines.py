"""NDJSON bodies over real sockets. Tried: wrong lines, conflicts, a database that stands still or goes away,
bodies that break off, bodies longer than the window."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientError, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pytest_aiohttp.plugin import AiohttpClient

from callactors.options import SystemOptions
from callactors.system import CallSystem
from callactors.web.keys import SYSTEM
from callactors.web.limits import Limits
from callactors.web.lines import MAX_LINE, TOGETHER, WINDOW, LineFailed, read_lines
from callactors.web.setup import routes, setup
from tests.proxy import proxy_to
from tests.scenes import OPTIONS, done
from tests.storage import Sql, locked, until

Client = TestClient[web.Request, web.Application]
PATH = "/v1/call/stream/c"
NDJSON = {"Content-Type": "application/x-ndjson"}


def line(sequence: int, data: str = "x", **more: Any) -> bytes:
    return json.dumps({"sequence": sequence, "data": data, "timestamp": 1.0, **more}).encode() + b"\n"


def lines(sequences: Iterable[int], data: str = "x") -> bytes:
    return b"".join(line(sequence, data) for sequence in sequences)


@pytest.fixture
async def client(dsn: str, aiohttp_client: AiohttpClient) -> Client:
    return await make_client(dsn, aiohttp_client)


async def make_client(dsn: str, aiohttp_client: AiohttpClient, options: SystemOptions = OPTIONS) -> Client:
    app = web.Application()
    setup(app, CallSystem(dsn, done, options))
    app.add_routes(routes())
    return await aiohttp_client(app)


async def post(client: Client, body: Any) -> tuple[int, dict[str, Any]]:
    data = io.BytesIO(body) if isinstance(body, bytes) else body
    response = await client.post(PATH, data=data, headers=NDJSON)
    return response.status, json.loads(await response.text())


async def stored(sql: Sql) -> list[int]:
    return [r["sequence"] for r in await sql.fetch("select sequence from packets order by 1")]


async def test_every_line_is_stored_and_counted(client: Client, sql: Sql) -> None:
    body = (
        lines(range(1, 2_001))
        + b"\n \r\n"
        + lines([5, 2_003])
        + line(2_002).replace(b"\n", b"\r\n")
        + line(7, stream="b").strip()
    )
    status, told = await post(client, body)
    assert (status, told) == (
        202,
        {
            "status": "accepted",
            "call_id": "c",
            "packets": 2_004,
            "duplicates": 1,
            "late": 1,
            "total_received": 2_003,
            "missing_sequences": {"": [[2_001, 2_001]], "b": [[1, 6]]},
            "missing_count": 7,
        },
    )
    assert await stored(sql) == sorted([*range(1, 2_001), 2_002, 2_003, 7])


async def test_an_empty_body_makes_no_call(client: Client) -> None:
    status, told = await post(client, b"\n\n")
    assert (status, told["packets"]) == (202, 0)
    assert (await client.get("/v1/call/c")).status == 404


@pytest.mark.parametrize(
    ("wrong", "status", "slug"),
    [
        (b"{\n", 400, "invalid-json"),
        (b"\xff\n", 400, "invalid-utf8"),
        (b"[]\n", 422, "validation"),
        (line(-1), 422, "validation"),
        (line(1, "other"), 409, "sequence-conflict"),
        (b" " * (MAX_LINE + 1), 413, "body-too-large"),
        (line(4)[:-4], 400, "invalid-json"),
    ],
)
async def test_a_wrong_line_is_named_and_all_before_it_are_stored(
    client: Client, sql: Sql, wrong: bytes, status: int, slug: str
) -> None:
    status_told, told = await post(client, b"\n" + lines(range(1, 101)) + wrong)
    assert (status_told, told["type"]) == (status, f"/problems/{slug}")
    assert (told["line"], told["stored"]) == (102, 101)
    assert await stored(sql) == list(range(1, 101))
    _, told = await post(client, lines(range(1, 111)))
    assert (told["packets"], told["duplicates"], told["total_received"]) == (110, 100, 110)


async def test_the_first_failure_counts_although_the_reader_meets_a_later_one(client: Client) -> None:
    await post(client, lines([3]))
    status, told = await post(client, lines([1, 2]) + line(3, "other") + lines([4, 5]) + b"{\n")
    assert (status, told["line"], told["stored"]) == (409, 3, 2)


@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {"Content-Type": "x"}])
async def test_other_forms_are_refused(client: Client, headers: dict[str, str]) -> None:
    media = {"Content-Type": "application/x-ndjson; charset=latin-1"} if "Content-Type" in headers else NDJSON
    response = await client.post(PATH, data=lines([1]), headers={**headers, **media})
    assert response.status in (400, 415)


async def test_a_body_is_read_no_faster_than_it_is_stored(client: Client, sql: Sql, dsn: str) -> None:
    await post(client, lines([1]))
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for sequence in range(2, 20_001):
            yield line(sequence, "x" * 1_000)
            sent = sequence

    system = client.app[SYSTEM]
    async with locked(dsn, "c"):
        posting = asyncio.create_task(post(client, body()))
        before = -1
        while sent != before:  # until nothing more is taken
            before = sent
            await asyncio.sleep(0.3)
        assert WINDOW - TOGETHER < system._journal.items <= WINDOW
        assert WINDOW < sent < 15_000
    status, told = await posting
    assert (status, told["total_received"]) == (202, 20_000)


async def test_a_database_that_goes_away_ends_the_body_with_what_is_surely_stored(
    dsn: str, sql: Sql, aiohttp_client: AiohttpClient
) -> None:
    async with proxy_to(dsn) as proxy:
        client = await make_client(proxy.dsn, aiohttp_client, replace(OPTIONS, ack_timeout=0.5))

        async def body() -> AsyncIterator[bytes]:
            yield lines(range(1, 501))
            await until(sql, "(select count(*) from packets) = 500")
            proxy.refuse()
            yield lines(range(501, 5_001))

        status, told = await post(client, body())
        assert (status, told["type"]) == (503, "/problems/storage-unavailable")
        assert told["stored"] == told["line"] - 1 == 500
        await proxy.listen()
        await client.close()


async def test_what_has_come_of_a_body_that_breaks_off_is_stored(client: Client, sql: Sql) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield lines(range(1, 301)) + b'{"sequence":'
        await until(sql, "(select count(*) from packets) = 300")
        raise OSError("the sender is gone")

    with pytest.raises(ClientError):
        await post(client, body())
    status, told = await post(client, lines([301]))
    assert (status, told["total_received"], told["missing_count"]) == (202, 301, 0)


LIMITS = Limits()


class Pieces(StreamReader):
    """A body that has come whole, in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(BaseProtocol(loop), 2**22, loop=loop)
        for piece in pieces:
            self.feed_data(piece)
        self.feed_eof()


@given(st.lists(st.binary(max_size=6).map(lambda piece: piece.replace(b"\x0b", b"\n")), max_size=30))
def test_lines_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    async def read(pieces: list[bytes]) -> list[tuple[int, bytes]]:
        return [line async for some in read_lines(Pieces(pieces), LIMITS) for line in some]

    found = asyncio.run(read(pieces))
    wanted = [(n, line) for n, line in enumerate(b"".join(pieces).split(b"\n"), 1) if line.strip()]
    assert [(n, line.strip()) for n, line in found] == [(n, line.strip()) for n, line in wanted]


async def test_a_long_line_is_refused_before_all_of_it_has_come() -> None:
    with pytest.raises(LineFailed) as caught:
        async for _ in read_lines(Pieces([b"\n", b"x" * MAX_LINE, b"x"]), LIMITS):
            pass
    assert caught.value.line == 2
