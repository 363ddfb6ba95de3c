"""The HTTP processor and a provider over real sockets: what is sent, and what answers mean."""

import asyncio
import hmac
import json
from base64 import b64encode
from collections.abc import Sequence
from email.utils import formatdate
from hashlib import sha256
from typing import Any

import pytest

from callactors.errors import StorageUnavailable
from callactors.retry import Done, GiveUp, Retry
from callactors.store.contents import StoredPacket
from tests.provider_scenes import (
    CANARY,
    JSON,
    MULAW,
    NOW,
    Request,
    Talk,
    answering,
    ask,
    asking,
    make_call,
    make_packets,
    media,
    provide,
    sent,
)


class TestRequest:
    async def test_it_is_the_whole_call_as_json(self) -> None:
        call = make_call([*make_packets(2, "a"), *make_packets(1, "b")], metadata={"from": "+15550100"})
        request = await sent(call)
        assert request.line == "POST /calls?team=a HTTP/1.1"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["idempotency-key"] == "c:1"
        assert "authorization" not in request.headers
        packet = {"stream": "a", "sequence": 1, "kind": "media", "timestamp": 0.02, "data": "eA=="}
        second = {**packet, "sequence": 2, "timestamp": 0.04}
        assert json.loads(request.body) == {
            "call_id": "c",
            "generation": 1,
            "attempt": 1,
            "idempotency_key": "c:1",
            "end_reason": "api",
            "started_at": "2026-01-01T12:00:00+00:00",
            "completed_at": "2026-01-01T13:00:00+00:00",
            "metadata": {"from": "+15550100"},
            "streams": ["a", "b"],
            "packets": [packet, second, {**packet, "stream": "b"}],
        }

    async def test_it_is_on_its_way_before_the_call_is_read_to_its_end(self) -> None:
        has_come, packets = asyncio.Event(), make_packets(5_000, data="x" * 100)
        pages = list[int]()

        async def read_page(_stream: str, after: int) -> tuple[Sequence[StoredPacket], int | None]:
            after = max(after, 0)
            pages.append(after)
            if after == 4_000:
                await has_come.wait()
            return packets[after : after + 1_000], after + 1_000 if after < 4_000 else None

        async def script(talk: Talk) -> Request:
            line, headers = await talk.read_head()
            body = b""
            async for chunk in talk.read_chunks():
                body += chunk
                has_come.set()
            talk.answer(200, JSON)
            return Request(line, headers, body, is_whole=True)

        async with provide(script) as provider, asking(provider.url) as processor:
            assert await processor(make_call(packets, read_page=read_page)) == Done(JSON)
            request = await provider.requests.get()
        assert len(json.loads(request.body)["packets"]) == 5_000
        assert pages == [0, 1_000, 2_000, 3_000, 4_000]
        assert request.headers["transfer-encoding"] == "chunked"

    async def test_a_call_that_is_too_large_is_given_up_and_its_request_breaks_off(self) -> None:
        call = make_call(make_packets(5_000, data="x" * 100))
        async with provide(answering(200, JSON)) as provider:
            async with asking(provider.url, max_request=300_000) as processor:
                outcome = await processor(call)
            request = await provider.requests.get()
        assert isinstance(outcome, GiveUp)
        assert "more than 300000 bytes, which CALLACTORS_HTTP_MAX_REQUEST allows" in outcome.reason
        assert not request.is_whole

    async def test_packets_that_cannot_be_read_break_it_off(self) -> None:
        packets = make_packets(1_000, data="x" * 100)

        async def read_page(_stream: str, after: int) -> tuple[Sequence[StoredPacket], int | None]:
            if after > 0:
                raise StorageUnavailable
            return packets, 1_000

        async with provide(answering(200, JSON)) as provider, asking(provider.url) as processor:
            with pytest.raises(StorageUnavailable):
                await processor(make_call(packets, read_page=read_page))
            assert not (await provider.requests.get()).is_whole

    async def test_a_token_is_sent_as_a_bearers(self) -> None:
        request = await sent(make_call(), token="sesame")
        assert request.headers["authorization"] == "Bearer sesame"

    async def test_a_signature_is_over_id_time_and_the_whole_body(self) -> None:
        secret = b"0123456789abcdef01234567"
        request = await sent(make_call(make_packets(3_000)), secret=secret)
        assert request.headers["webhook-id"] == "c:1"
        assert request.headers["webhook-timestamp"] == str(int(NOW))
        mac = hmac.digest(secret, f"c:1.{int(NOW)}.".encode() + request.body, sha256)
        assert request.headers["webhook-signature"] == f"v1,{b64encode(mac).decode()}"

    async def test_proxies_of_the_environment_are_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with provide(answering(502)) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            await sent(make_call())
            assert proxy.talks == 0

    async def test_cookies_are_not_kept(self) -> None:
        async with provide(answering(200, JSON, "Set-Cookie: a=b; Path=/")) as provider:
            url = provider.url.replace("127.0.0.1", "localhost")  # cookies of addresses are never kept
            async with asking(url) as processor:
                await processor(make_call())
                await processor(make_call())
            assert "cookie" not in (await provider.requests.get()).headers
            assert "cookie" not in (await provider.requests.get()).headers

    async def test_calls_beyond_the_connections_wait_for_their_turn(self) -> None:
        busy, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.read_request()
            busy.release()
            await go_on.wait()
            talk.answer(200, {"text": "hello"})

        reads = list[int]()

        async def read_page(_stream: str, after: int) -> tuple[Sequence[StoredPacket], int | None]:
            reads.append(after)
            return media(b"\xff"), None

        call = make_call(media(b"\xff"), metadata=MULAW, read_page=read_page)
        options = {"connections": 2, "form": "transcription"}
        async with provide(script) as provider, asking(provider.url, **options) as processor:
            asked = [asyncio.ensure_future(processor(call)) for _ in range(5)]
            await busy.acquire()
            await busy.acquire()
            assert (provider.talks, len(reads)) == (2, 2)
            go_on.set()
            assert all(isinstance(outcome, Done) for outcome in await asyncio.gather(*asked))
        assert len(reads) == 5


class TestAnswer:
    @pytest.mark.parametrize(
        "result",
        [
            {"transcript": "hello", "summary": "a greeting", "sentiment": "unknown"},
            {"transcript": [{"speaker": "a", "text": "hello"}]},
            {"transcript": None, "topics": ["billing"], "score": 0.5},
            {},
        ],
    )
    async def test_a_result_of_the_agreed_shape_is_stored_as_it_came(self, result: dict[str, Any]) -> None:
        assert await ask(answering(200, result)) == Done(result)
        assert await ask(answering(201, result)) == Done(result)

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "not JSON"),
            (b"<html>in maintenance</html>", "not JSON"),
            (b'{"transcript": "hel', "not JSON"),
            (b'{"transcript": "\xff"}', "not JSON"),
            (b'{"transcript": "\\u0000"}', "not JSON"),
            (b'{"score": NaN}', "not JSON"),
            (b'{"score": 1e999}', "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "not JSON"),
            (b'["hello"]', "not a JSON object"),
            (b'"hello"', "not a JSON object"),
            (b'{"transcript": 7}', "wrong or no transcript"),
            (b'{"sentiment": "furious", "summary": {}}', "wrong or no sentiment, summary"),
        ],
    )
    async def test_garbage_is_a_retry_since_a_model_may_do_better(self, body: bytes, reason: str) -> None:
        outcome = await ask(answering(200, body))
        assert isinstance(outcome, Retry)
        assert reason in outcome.reason

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
    async def test_what_passes_is_a_retry(self, status: int) -> None:
        assert await ask(answering(status)) == Retry(f"the provider answered {status}")

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 600])
    async def test_a_refusal_is_given_up_and_its_words_are_not_repeated(self, status: int) -> None:
        body = {"error": f"no such card: {CANARY}"}
        assert await ask(answering(status, body)) == GiveUp(f"the provider answered {status}")

    @pytest.mark.parametrize(
        ("value", "after"),
        [
            ("7", 7.0),
            ("0", 0.0),
            (formatdate(NOW + 90, usegmt=True), 90.0),
            (formatdate(NOW - 90, usegmt=True), 0.0),
            ("Thursday, 01-Jan-26 00:01:30 GMT", 90.0),
            ("soon", None),
            ("-1", None),
            ("1e9", None),
            ("9" * 40, None),
            ("Thu, 99 Jan 99999 99:99:99 GMT", None),
        ],
    )
    async def test_retry_after_is_heeded(self, value: str, after: float | None) -> None:
        outcome = await ask(answering(429, b"", f"Retry-After: {value}"))
        assert outcome == Retry("the provider answered 429", after)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, status: int) -> None:
        async with provide(answering(200, JSON)) as inner:
            outcome = await ask(answering(status, b"", f"Location: {inner.url}"))
            assert inner.talks == 0
        assert isinstance(outcome, GiveUp)
        assert outcome.reason.startswith(f"the provider answered {status}, and redirects are not followed")
