"""The HTTP processor and a provider that may do anything, over real sockets."""

import asyncio
import gzip
import hmac
import json
import wave
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.utils import formatdate
from hashlib import sha256
from io import BytesIO
from typing import Any, Final

import pytest

from callactors.errors import StorageUnavailable
from callactors.packets import PacketKind
from callactors.processors.addresses import is_private
from callactors.processors.http import HttpOptions, HttpProcessor
from callactors.processors.recordings import AudioFormat, UnknownAudio, make_wav, read_format
from callactors.retry import Done, GiveUp, Outcome, Retry
from callactors.store.contents import StoredPacket
from tests.provider_scenes import (
    JSON,
    Provider,
    Request,
    Script,
    Talk,
    answering,
    make_call,
    make_packets,
    provide,
)

NOW: Final = 1_767_225_600.0  # 2026-01-01
MULAW: Final = {"media_format": {"encoding": "audio/x-mulaw", "sample_rate": 8_000, "channels": 1}}
CANARY: Final = "4111 1111 1111 1111"


@asynccontextmanager
async def asking(url: str, **options: Any) -> AsyncIterator[HttpProcessor]:
    chosen = {"is_private_allowed": True, **options}
    processor = HttpProcessor(HttpOptions(url=url, **chosen), clock=lambda: NOW)
    try:
        yield processor
    finally:
        await processor.close()


async def ask(script: Script, call: Any = None, **options: Any) -> Outcome:
    """Return what comes of one call with a provider that does *script*."""
    async with provide(script) as provider, asking(provider.url, **options) as processor:
        return await processor(call or make_call(make_packets(3)))


async def sent(call: Any, answer: Mapping[str, Any] = JSON, **options: Any) -> Request:
    """Return the request that *call* makes."""
    async with provide(answering(200, answer)) as provider, asking(provider.url, **options) as processor:
        assert isinstance(await processor(call), Done)
        return await provider.requests.get()


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


class TestHostile:
    async def test_ten_megabytes_are_given_up(self) -> None:
        outcome = await ask(answering(200, b'"' + b"x" * 10_000_000))
        assert isinstance(outcome, GiveUp)
        assert "1048576 bytes that CALLACTORS_HTTP_MAX_RESPONSE allows" in outcome.reason

    async def test_chunks_without_end_are_given_up(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.read_request()
            talk.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                talk.writer.write(b"400\r\n" + b" " * 1_024 + b"\r\n")
                await talk.writer.drain()

        assert isinstance(await ask(script), GiveUp)

    async def test_an_answer_that_is_small_on_the_wire_and_huge_inside_is_not_unpacked(self) -> None:
        body = gzip.compress(json.dumps({"transcript": " " * 1_000_000}).encode())
        assert isinstance(await ask(answering(200, body, "Content-Encoding: gzip")), Retry)

    async def test_a_slow_drip_ends_with_the_deadline(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.read_request()
            talk.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                talk.writer.write(b" ")
                await asyncio.sleep(0.01)  # it is what the provider does

        outcome = await ask(script, make_call(deadline=0.2), read_timeout=0.1)
        assert outcome == Retry("the provider did not answer in time")

    @pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
    async def test_a_provider_that_never_answers_ends_with_the_deadline(self, begin: bytes) -> None:
        async def script(talk: Talk) -> None:
            await talk.read_request()
            talk.writer.write(begin)
            await asyncio.Event().wait()

        outcome = await ask(script, make_call(deadline=0.1))
        assert outcome == Retry("the provider did not answer in time")

    async def test_a_provider_that_does_not_read_ends_with_the_deadline(self) -> None:
        async def script(_talk: Talk) -> None:
            await asyncio.Event().wait()

        call = make_call(make_packets(5_000, data="x" * 4_000), deadline=0.2)
        assert await ask(script, call) == Retry("the provider did not answer in time")

    async def test_silence_in_the_middle_of_an_answer_is_a_retry(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.read_request()
            talk.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            await asyncio.Event().wait()

        outcome = await ask(script, read_timeout=0.05)
        assert outcome == Retry("the provider fell silent in the middle of its answer")

    async def test_a_success_that_comes_too_late_is_a_retry_and_the_next_attempt_is_the_same_request(
        self,
    ) -> None:
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
    async def test_a_reset_at_any_stage_is_a_retry(self, stage: str) -> None:
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
    async def test_what_is_not_http_is_a_retry(self, answer: bytes) -> None:
        async def script(talk: Talk) -> None:
            await talk.read_request()
            talk.writer.write(answer)
            await talk.writer.drain()

        assert isinstance(await ask(script), Retry)

    async def test_a_url_that_the_client_does_not_take_is_given_up(self) -> None:
        async with asking("http://2130706433/") as processor:
            assert await processor(make_call()) == GiveUp("CALLACTORS_HTTP_URL cannot be asked")

    async def test_a_provider_that_is_not_there_is_a_retry(self) -> None:
        async with provide(answering(200)) as provider:
            pass
        async with asking(provider.url) as processor:
            outcome = await processor(make_call())
        assert isinstance(outcome, Retry)
        assert outcome.reason.startswith("cannot connect to the provider")
        assert "127.0.0.1" not in outcome.reason

    async def test_an_answer_before_the_whole_request_counts(self) -> None:
        async def script(talk: Talk) -> None:
            await talk.read_head()
            talk.answer(413)
            await talk.writer.drain()
            await talk.reader.read(-1)

        outcome = await ask(script, make_call(make_packets(5_000, data="x" * 1_000)))
        assert outcome == GiveUp("the provider answered 413")


class TestAddresses:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "10.0.0.1",
            "0.0.0.0",
            "localhost",
        ],
    )
    async def test_private_addresses_are_not_connected_to_whatever_they_are_called(self, host: str) -> None:
        async with provide(answering(200, JSON)) as provider:
            url = provider.url.replace("127.0.0.1", host)
            async with asking(url, is_private_allowed=False) as processor:
                outcome = await processor(make_call())
            assert provider.talks == 0
        assert isinstance(outcome, GiveUp)
        assert "set CALLACTORS_HTTP_ALLOW_PRIVATE" in outcome.reason

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    async def test_with_the_switch_they_are(self, host: str) -> None:
        async with provide(answering(200, JSON)) as provider:
            url = provider.url.replace("127.0.0.1", host)
            async with asking(url) as processor:
                assert await processor(make_call()) == Done(JSON)

    @pytest.mark.parametrize(
        ("host", "private"),
        [
            ("8.8.8.8", False),
            ("2606:4700::1111", False),
            ("::ffff:8.8.8.8", False),
            ("ai.example", False),
            ("100.100.100.200", True),
            ("168.63.129.16", True),
            ("192.168.1.1", True),
            ("172.16.0.1", True),
            ("224.0.0.1", True),
            ("255.255.255.255", True),
            ("fe80::1%eth0", True),
            ("fd00:ec2::254", True),
            ("2002:7f00:1::", True),
            ("64:ff9b::a9fe:a9fe", True),
            ("localhost.", True),
        ],
    )
    def test_which_are_private(self, host: str, *, private: bool) -> None:
        assert is_private(host) is private


def media(*audio: bytes, stream: str = "MZ1", track: str | None = None) -> list[StoredPacket]:
    packets = []
    for sequence, piece in enumerate(audio, 1):
        data = b64encode(piece).decode()
        if track is not None:
            data = json.dumps({"track": track, "payload": data})
        packets.append(StoredPacket(stream, sequence, PacketKind.MEDIA, sequence / 50, data))
    return packets


class TestTranscription:
    @staticmethod
    async def transcribe(call: Any, script: Script, **options: Any) -> tuple[Outcome, Provider]:
        options |= {"form": "transcription"}
        async with provide(script) as provider, asking(provider.url, **options) as processor:
            return await processor(call), provider

    async def test_each_track_is_a_recording_and_each_text_comes_back_with_its_track(self) -> None:
        texts = iter(["hello", "good day"])

        async def script(talk: Talk) -> Request:
            request = await talk.read_request()
            talk.answer(200, {"text": next(texts), "usage": {"seconds": 1}})
            return request

        inbound, outbound = media(b"\xff" * 160, track="inbound"), media(b"\x80" * 160, track="outbound")
        packets = [
            *inbound,
            outbound[0]._replace(sequence=2),
            StoredPacket("MZ1", 3, PacketKind.MARK, 1.0, "x"),
        ]
        call = make_call(packets, metadata=MULAW)
        outcome, provider = await self.transcribe(call, script, model="large", language="de", token="t")
        assert outcome == Done(
            {
                "transcript": [
                    {"stream": "MZ1", "track": "inbound", "text": "hello"},
                    {"stream": "MZ1", "track": "outbound", "text": "good day"},
                ]
            }
        )
        first, second = [read_parts(await provider.requests.get()) for _ in range(2)]
        told = {"model": b"large", "language": b"de", "response_format": b"json"}
        assert {name: first[name] for name in told} == told
        assert read_wav(first["file"]) == (1, 2, 8_000, b"\x00\x00" * 160)
        assert read_wav(second["file"])[3] == (32_124).to_bytes(2, "little") * 160

    async def test_each_request_has_its_length_and_a_key_of_its_own(self) -> None:
        packets = [*media(b"\xff", track="a"), media(b"\xff", track="b")[0]._replace(sequence=2)]
        call = make_call(packets, metadata=MULAW)
        _, provider = await self.transcribe(call, answering(200, {"text": ""}))
        requests = [await provider.requests.get() for _ in range(2)]
        assert [request.headers["idempotency-key"] for request in requests] == ["c:1:1", "c:1:2"]
        assert all("content-length" in request.headers for request in requests)

    async def test_without_audio_nobody_is_asked(self) -> None:
        call = make_call([StoredPacket("", 1, PacketKind.TEXT, 1.0, "hi")])
        outcome, provider = await self.transcribe(call, answering(500))
        assert (outcome, provider.talks) == (Done({"transcript": []}), 0)

    @pytest.mark.parametrize(
        ("packets", "metadata", "reason"),
        [
            (media(b"\xff"), {}, "does not tell an audio format"),
            (media(b"\xff"), {"media_format": {"encoding": "opus"}}, "does not tell an audio format"),
            (make_packets(1, data="hello"), MULAW, "is not base64"),
            (make_packets(1, data='{"track":"a"'), MULAW, "is not base64"),
            (make_packets(1, data='{"payload":7}'), MULAW, "is not base64"),
            (make_packets(1, data='{"length":3,"sha256":"x"}'), MULAW, "CALLACTORS_STORE_MEDIA"),
            (media(*[b"\xff" * 1_000] * 100), MULAW, "CALLACTORS_HTTP_MAX_REQUEST"),
        ],
    )
    async def test_what_cannot_be_heard_is_given_up(
        self, packets: list[StoredPacket], metadata: dict[str, Any], reason: str
    ) -> None:
        call = make_call(packets, metadata=metadata)
        outcome, provider = await self.transcribe(call, answering(200, {"text": ""}), max_request=100_000)
        assert isinstance(outcome, GiveUp)
        assert reason in outcome.reason
        assert provider.talks == 0

    @pytest.mark.parametrize("answer", [{}, {"text": 7}, {"text": None}, {"error": "x"}])
    async def test_an_answer_without_a_text_is_a_retry(self, answer: dict[str, Any]) -> None:
        call = make_call(media(b"\xff"), metadata=MULAW)
        outcome, _ = await self.transcribe(call, answering(200, answer))
        assert outcome == Retry("the provider's answer has a wrong or no text")

    async def test_one_track_that_fails_is_a_failed_attempt(self) -> None:
        call = make_call(media(b"\xff"), metadata=MULAW)
        outcome, _ = await self.transcribe(call, answering(503, b"", "Retry-After: 3"))
        assert outcome == Retry("the provider answered 503", 3.0)


def read_parts(request: Request) -> dict[str, bytes]:
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.body)
    parts: dict[str, bytes] = {}
    for part in message.walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            parts[str(part.get_param("name", header="content-disposition"))] = content
    return parts


def read_wav(content: bytes) -> tuple[int, int, int, bytes]:
    with wave.open(BytesIO(content)) as file:
        return file.getnchannels(), file.getsampwidth(), file.getframerate(), file.readframes(1_000_000)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (MULAW, AudioFormat("mulaw", 8_000)),
        ({"media_format": {"encoding": "PCMU", "sample_rate": 8_000}}, AudioFormat("mulaw", 8_000)),
        ({"media_format": {"encoding": "PCMA"}}, AudioFormat("alaw", 8_000)),
        ({"media_format": {"encoding": "L16", "sample_rate": "16000"}}, AudioFormat("s16le", 16_000)),
        ({"media_format": {"encoding": "audio/x-l16", "channels": 2}}, AudioFormat("s16le", 8_000, 2)),
        ({"media_format": {"encoding": "audio/x-raw", "sample_rate": "8000"}}, AudioFormat("s16le", 8_000)),
        ({"content_type": "audio/l16;rate=24000"}, AudioFormat("s16le", 24_000)),
        ({"format": "ulaw"}, AudioFormat("mulaw", 8_000)),
        ({"format": "slin16"}, AudioFormat("s16le", 16_000)),
        ({"format": "slin44"}, AudioFormat("s16le", 44_100)),
        (
            {"vendor": "jambonz", "sample_rate": 16_000, "mix_type": "stereo"},
            AudioFormat("s16le", 16_000, 2),
        ),
        ({"vendor": "mod_audio_fork"}, AudioFormat("s16le", 8_000)),
        ({"media_format": {"encoding": "mulaw", "sample_rate": 999_999}}, AudioFormat("mulaw", 8_000)),
    ],
)
def test_vendors_formats_are_known(metadata: dict[str, Any], expected: AudioFormat) -> None:
    assert read_format(metadata) == expected


@pytest.mark.parametrize("metadata", [{}, {"media_format": "mulaw"}, {"media_format": {"encoding": 7}}])
def test_a_format_that_nobody_tells_is_not_guessed(metadata: dict[str, Any]) -> None:
    with pytest.raises(UnknownAudio):
        read_format(metadata)


def test_samples_of_16_bits_are_kept_and_half_a_sample_is_left_out() -> None:
    audio = b64decode("AQACAAM=")
    assert read_wav(make_wav(audio, AudioFormat("s16le", 16_000))) == (1, 2, 16_000, b"\x01\x00\x02\x00")
    assert read_wav(make_wav(b"\xd5\x55", AudioFormat("alaw", 8_000)))[3] == b"\x08\x00\xf8\xff"
