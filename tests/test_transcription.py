"""The audio of a call as a provider of transcriptions is sent it."""

import wave
from base64 import b64decode
from email import message_from_bytes
from io import BytesIO
from typing import Any

import pytest

from callactors.packets import PacketKind
from callactors.processors.recordings import AudioFormat, UnknownAudio, make_wav, read_format
from callactors.retry import Done, GiveUp, Outcome, Retry
from callactors.store.contents import StoredPacket
from tests.provider_scenes import (
    MULAW,
    Provider,
    Request,
    Script,
    Talk,
    answering,
    asking,
    make_call,
    make_packets,
    media,
    provide,
)


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
