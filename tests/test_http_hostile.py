"""The HTTP processor and a provider that may do anything, over real sockets."""

import asyncio
import gzip
import json

import pytest

from callactors.retry import Done, GiveUp, Retry
from tests.provider_scenes import (
    JSON,
    Request,
    Talk,
    answering,
    ask,
    asking,
    make_call,
    make_packets,
    provide,
)


async def test_ten_megabytes_are_given_up() -> None:
    outcome = await ask(answering(200, b'"' + b"x" * 10_000_000))
    assert isinstance(outcome, GiveUp)
    assert "1048576 bytes that CALLACTORS_HTTP_MAX_RESPONSE allows" in outcome.reason


async def test_chunks_without_end_are_given_up() -> None:
    async def script(talk: Talk) -> None:
        await talk.read_request()
        talk.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            talk.writer.write(b"400\r\n" + b" " * 1_024 + b"\r\n")
            await talk.writer.drain()

    assert isinstance(await ask(script), GiveUp)


async def test_an_answer_that_is_small_on_the_wire_and_huge_inside_is_not_unpacked() -> None:
    body = gzip.compress(json.dumps({"transcript": " " * 1_000_000}).encode())
    assert isinstance(await ask(answering(200, body, "Content-Encoding: gzip")), Retry)


async def test_a_slow_drip_ends_with_the_deadline() -> None:
    async def script(talk: Talk) -> None:
        await talk.read_request()
        talk.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            talk.writer.write(b" ")
            await asyncio.sleep(0.01)  # it is what the provider does

    outcome = await ask(script, make_call(deadline=0.2), read_timeout=0.1)
    assert outcome == Retry("the provider did not answer in time")


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_provider_that_never_answers_ends_with_the_deadline(begin: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_request()
        talk.writer.write(begin)
        await asyncio.Event().wait()

    outcome = await ask(script, make_call(deadline=0.1))
    assert outcome == Retry("the provider did not answer in time")


async def test_a_provider_that_does_not_read_ends_with_the_deadline() -> None:
    async def script(_talk: Talk) -> None:
        await asyncio.Event().wait()

    call = make_call(make_packets(5_000, data="x" * 4_000), deadline=0.2)
    assert await ask(script, call) == Retry("the provider did not answer in time")


async def test_silence_in_the_middle_of_an_answer_is_a_retry() -> None:
    async def script(talk: Talk) -> None:
        await talk.read_request()
        talk.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await asyncio.Event().wait()

    outcome = await ask(script, read_timeout=0.05)
    assert outcome == Retry("the provider fell silent in the middle of its answer")


async def test_a_success_that_comes_too_late_is_a_retry_and_the_next_attempt_is_the_same_request() -> None:
    is_late, answers = asyncio.Event(), iter([True, False])

    async def script(talk: Talk) -> Request:
        request = await talk.read_request()
        if next(answers):
            await is_late.wait()
        talk.answer(200, JSON)
        return request

    async with provide(script) as provider, asking(provider.url) as processor:
        assert isinstance(await processor(make_call(deadline=0.1)), Retry)
        is_late.set()
        assert await processor(make_call(attempt=2)) == Done(JSON)
        keys = {(await provider.requests.get()).headers["idempotency-key"] for _ in range(2)}
    assert keys == {"c:1"}


@pytest.mark.parametrize("stage", ["connect", "head", "body", "request", "answer", "middle", "chunk"])
async def test_a_reset_at_any_stage_is_a_retry(stage: str) -> None:
    async def script(talk: Talk) -> None:
        if stage == "head":
            await talk.read_head()
        if stage == "body":
            await talk.reader.readexactly(100_000)
        if stage in ("request", "answer", "middle", "chunk"):
            await talk.read_request()
        if stage == "answer":
            talk.writer.write(b"HTTP/1.1 200")
        if stage == "middle":
            talk.writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"transcript": "h')
        if stage == "chunk":
            talk.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        talk.reset()

    outcome = await ask(script, make_call(make_packets(5_000, data="x" * 1_000)))
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("the connection to the provider failed")


@pytest.mark.parametrize(
    "answer",
    [
        b"220 smtp.example ESMTP\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(5_000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"\x00" * 1_000,
    ],
)
async def test_what_is_not_http_is_a_retry(answer: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.read_request()
        talk.writer.write(answer)
        await talk.writer.drain()

    assert isinstance(await ask(script), Retry)


async def test_a_url_that_the_client_does_not_take_is_given_up() -> None:
    async with asking("http://2130706433/") as processor:
        assert await processor(make_call()) == GiveUp("CALLACTORS_HTTP_URL cannot be asked")


async def test_a_provider_that_is_not_there_is_a_retry() -> None:
    async with provide(answering(200)) as provider:
        pass
    async with asking(provider.url) as processor:
        outcome = await processor(make_call())
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("cannot connect to the provider")
    assert "127.0.0.1" not in outcome.reason


async def test_an_answer_before_the_whole_request_counts() -> None:
    async def script(talk: Talk) -> None:
        await talk.read_head()
        talk.answer(413)
        await talk.writer.drain()
        await talk.reader.read(-1)

    outcome = await ask(script, make_call(make_packets(5_000, data="x" * 1_000)))
    assert outcome == GiveUp("the provider answered 413")
