"""Lines and frames under random input. Tried: any chunks, any frames, conflicts, completes, frames without
text; each is answered, none is lost, and what is taken is what a second reader takes."""

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import event, given
from hypothesis import strategies as st

from callactors.web.limits import Limits
from callactors.web.lines import MAX_LINE, LineFailed, read_lines
from tests.fuzz import BODIES, fuzz
from tests.reference import Wrong, parse_json, parse_packet
from tests.scenes import make_app
from tests.test_lines import Pieces

Told = dict[str, Any]
Client = TestClient[web.Request, web.Application]

# Refusals of right packets, which depend on what came before.
STATEFUL: Final = {"call-closed", "sequence-conflict", "sequence-window", "unknown-call"}
BLANK: Final = b" \t\r\x0b\x0c"


def packets() -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda sequence, data, stream: json.dumps(
            {"sequence": sequence, "data": data, "timestamp": 1.0, "stream": stream}
        ).encode(),
        st.integers(0, 8),
        st.sampled_from(("x", "x", "y", '"\\')),
        st.sampled_from(("", "", "a")),
    )


def completes() -> st.SearchStrategy[bytes]:
    return st.sampled_from(
        (
            *(b'{"type":"complete"}', b'{"type":"complete","reason":"busy"}', b'{"type":"complete","a":1}'),
            *(b'{"type":"complete","metadata":{"a":1e400}}', b'{"type":"complete","type":"complete"}'),
            *(b'{"type":"hello"}', b'{"type":null}', b'{"type":["complete"]}', b'{"type":{}}'),
        )
    )


# Lines and chunks


class Read(NamedTuple):
    lines: list[tuple[int, bytes]]
    failed: tuple[int, type] | None


async def read(pieces: Sequence[bytes]) -> Read:
    """Return what is read of a body in *pieces*."""
    lines: list[tuple[int, bytes]] = []
    try:
        async for some in read_lines(Pieces([piece for piece in pieces if piece]), Limits()):
            lines += some
    except LineFailed as failed:
        return Read(lines, (failed.line, type(failed.error)))
    return Read(lines, None)


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(body) + 1) for place in places} | {len(body)})
    return [body[start:end] for start, end in zip([0, *ends], ends, strict=False)]


LINES: Final = st.lists(
    st.one_of(BODIES, packets(), st.just(b""), st.text(BLANK.decode(), max_size=3).map(str.encode)),
    max_size=8,
)
ENDS: Final = st.sampled_from((b"\n", b"\r\n", b"\n\n", b"\n \n"))


@fuzz(800)
@given(LINES, ENDS, st.booleans(), st.lists(st.integers(0, 2_000), max_size=20))
def test_lines_and_their_numbers_do_not_depend_on_the_chunks(
    lines: list[bytes], end: bytes, has_end: bool, places: list[int]
) -> None:
    body = end.join(lines) + (end if has_end else b"")
    found = asyncio.run(read(cut(body, places)))
    wanted = [(n, line.strip()) for n, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    assert [(n, line.strip()) for n, line in found.lines] == wanted
    assert found.failed is None
    each = asyncio.run(read([body[n : n + 1] for n in range(len(body))]))
    assert [(n, line.strip()) for n, line in each.lines] == wanted


@fuzz(40)
@given(
    st.integers(0, 3),
    st.integers(MAX_LINE - 2, MAX_LINE + 2),
    st.booleans(),
    st.lists(st.integers(0, MAX_LINE + 20), max_size=5),
)
def test_a_line_of_the_limit_is_taken_and_one_above_it_refused_however_it_is_cut(
    before: int, length: int, has_end: bool, places: list[int]
) -> None:
    body = b"{}\n" * before + b"x" * length + (b"\n{}" if has_end else b"")
    found = asyncio.run(read(cut(body, places)))
    if length > MAX_LINE:
        assert found.failed is not None
        assert found.failed[0] == before + 1
    else:
        assert found.failed is None
        assert [n for n, _ in found.lines] == list(range(1, before + 2 + has_end))


# Frames


class Scene:
    """An app on a database, and connections to it, each to a call of its own."""

    def __init__(self, runner: asyncio.Runner, dsn: str) -> None:
        self._runner = runner
        self._numbers = count()
        self._client = runner.run(self._start(dsn))

    async def _start(self, dsn: str) -> Client:
        client = TestClient(TestServer(make_app(dsn)))
        await client.start_server()
        return client

    def close(self) -> None:
        self._runner.run(self._client.close())

    def send(self, frames: Sequence[bytes]) -> tuple[list[Told], Told | None]:
        """Return what is told of *frames*, and then of the call."""
        return self._runner.run(self._send(f"c{next(self._numbers)}", frames))

    async def _send(self, call_id: str, frames: Sequence[bytes]) -> tuple[list[Told], Told | None]:
        told: list[Told] = []
        async with self._client.ws_connect(f"/v1/call/stream/{call_id}") as ws:
            for frame in frames:
                await ws.send_frame(frame, WSMsgType.TEXT)
            while not told or told[-1].get("frames") != len(frames):
                told.append(await ws.receive_json(timeout=10))
        async with self._client.get(f"/v1/call/{call_id}") as response:
            assert response.status in (200, 404)
            return told, await response.json() if response.status == 200 else None

    def end_by(self, frame: bytes, kind: WSMsgType) -> int:
        """Return the code by which a connection ends that brings *frame*, of *kind*, behind a packet."""
        return self._runner.run(self._end_by(frame, kind))

    async def _end_by(self, frame: bytes, kind: WSMsgType) -> int:
        async with self._client.ws_connect(f"/v1/call/stream/c{next(self._numbers)}") as ws:
            await ws.send_str('{"sequence":1,"data":"x","timestamp":1}')
            await ws.send_frame(frame, kind)
            while (message := await ws.receive(timeout=10)).type is WSMsgType.TEXT:
                pass
            return int(message.data) if message.type is WSMsgType.CLOSE else 0


@pytest.fixture
def scene(dsn: str) -> Iterator[Scene]:
    with asyncio.Runner() as runner:
        scene = Scene(runner, dsn)
        yield scene
        scene.close()


def is_packet(frame: bytes) -> bool:
    try:
        parse_packet(frame)
    except Wrong:
        return False
    return True


def is_complete(frame: bytes) -> bool:
    """Whether *frame* says so; its other fields may be wrong."""
    try:
        fields = parse_json(frame)
    except Wrong:
        return False
    return isinstance(fields, dict) and fields.get("type") == "complete"


def check_answers(frames: Sequence[bytes], told: Sequence[Told], call: Told | None) -> None:
    """Each frame has one answer, in order, and only what is right can be stored."""
    named = [answer["frame"] for answer in told if answer["type"] != "ack"]
    acks = [answer["frames"] for answer in told if answer["type"] == "ack"]
    assert named == sorted(set(named))
    assert acks == sorted(set(acks))
    refused = {answer["frame"]: answer["problem"] for answer in told if answer["type"] == "refused"}
    completed = {answer["frame"] for answer in told if answer["type"] == "completed"}
    keys: set[tuple[str, int]] = set()
    for number, frame in enumerate(frames, 1):
        slug = refused.get(number, {}).get("type", "").removeprefix("/problems/")
        event(slug or "taken")
        if is_packet(frame):
            assert not slug or slug in STATEFUL
            sequence, _, _, stream = parse_packet(frame)
            keys |= set() if slug else {(stream, sequence)}
        elif number in completed:
            assert is_complete(frame)
        else:
            assert refused[number]["status"] in (400, 404, 413, 422), (frame, told)
    assert len(keys) == (call or {"packets": 0})["packets"]


def _is_utf8(body: bytes) -> bool:
    return body.decode(errors="replace").encode() == body


FRAMES: Final = st.lists(
    st.one_of(packets(), packets(), completes(), BODIES.filter(_is_utf8)),
    min_size=1,
    max_size=30,
)


def test_each_frame_is_answered_and_the_right_ones_are_stored(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    @fuzz(250, is_quick_to_fail=False)
    @given(FRAMES)
    def play(frames: list[bytes]) -> None:
        told, call = scene.send(frames)
        check_answers(frames, told, call)

    play()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_frames_that_are_no_text_end_the_connection_and_nothing_else(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    @fuzz(100, is_quick_to_fail=False)
    @given(st.binary(max_size=40), st.sampled_from((WSMsgType.BINARY, WSMsgType.TEXT)))
    def play(frame: bytes, kind: WSMsgType) -> None:
        if kind is WSMsgType.BINARY or not _is_utf8(frame):
            assert scene.end_by(frame, kind) == (1003 if kind is WSMsgType.BINARY else 1007)
        good = b'{"sequence":1,"data":"x","timestamp":1}'
        assert scene.send([good])[0] == [{"type": "ack", "frames": 1}]

    play()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
