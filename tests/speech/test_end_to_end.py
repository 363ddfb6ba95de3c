"""A machine speaks on a leg of Twilio's, and the call has a transcript with its words."""

import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from callactors.processors.speech import SpeechProcessor
from callactors.retry import RetryPolicy
from callactors.system import CallSystem
from callactors.web.setup import routes, setup
from callactors.web.vendor_access import VendorRules
from tests.scenes import OPTIONS, Sql, until_state
from tests.speech.voices import ESPEAK_MAN, FLITE_MAN, RATE, Voice, telephone

pytest.importorskip("pocketsphinx", reason="the extra speech is not installed")

CALL, STREAM = "CA0123456789abcdef0123456789abcdef", "MZ0123456789abcdef0123456789abcdef"
PIECE = RATE // 50
DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "speech.md"

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def processor() -> AsyncIterator[SpeechProcessor]:
    processor = SpeechProcessor(1)
    yield processor
    await processor.close()


@pytest.fixture
async def client(dsn: str, processor: SpeechProcessor, aiohttp_client: AiohttpClient) -> Client:
    """Of a server that stores audio."""
    app = web.Application()
    options = replace(OPTIONS, policy=RetryPolicy(initial=0.0, attempt_timeout=50.0))
    setup(app, CallSystem(dsn, processor, options), vendors=VendorRules(store_media=True))
    app.add_routes(routes())
    return await aiohttp_client(app)


def speak(voice: Voice, text: str) -> bytes:
    """What the telephone carries of *text*."""
    if not voice.is_installed:
        pytest.skip(f"{voice.program} is not installed: apt-get install {voice.program}")
    return telephone(voice, text)


def leg(tracks: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    """What Twilio sends of a leg on which *tracks* are heard at once."""
    audio = {"encoding": "audio/x-mulaw", "sampleRate": RATE, "channels": 1}
    start = {"streamSid": STREAM, "callSid": CALL, "tracks": list(tracks), "mediaFormat": audio}
    yield {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    yield {"event": "start", "start": start}
    for at in range(0, max(map(len, tracks.values())), PIECE):
        for track, whole in tracks.items():
            if payload := whole[at : at + PIECE]:
                told = {"timestamp": str(1_000 * at // RATE), "payload": b64encode(payload).decode()}
                yield {"event": "media", "media": {"track": track, **told}}
    yield {"event": "stop", "stop": {"callSid": CALL}}


async def send(client: Client, tracks: Mapping[str, bytes]) -> None:
    async with client.ws_connect("/v1/media") as ws:
        for number, message in enumerate(leg(tracks)):
            await ws.send_json({"sequenceNumber": str(number), "streamSid": STREAM, **message})


async def read_result(client: Client, sql: Sql) -> Any:
    """The result of the call, once it has one."""
    await until_state(sql, CALL, "ARCHIVED")
    return json.loads(await (await client.get(f"/v1/call/{CALL}")).text())["result"]


@pytest.mark.parametrize(
    ("voice", "text", "words", "sentiment"),
    [
        (FLITE_MAN, "i have a terrible problem with my computer", "terrible problem computer", "negative"),
        (FLITE_MAN, "i love this wonderful phone", "love wonderful phone", "positive"),
        (FLITE_MAN, "the doctor will see you on monday", "doctor will see monday", "neutral"),
        (ESPEAK_MAN, "i have a problem with my computer", "problem computer", "negative"),
    ],
    ids=["flite complains", "flite is glad", "flite tells", "espeak-ng complains"],
)
async def test_what_is_said_on_the_telephone_is_read_in_the_transcript(
    voice: Voice, text: str, words: str, sentiment: str, client: Client, sql: Sql
) -> None:
    audio = speak(voice, text)
    await send(client, {"inbound": audio})
    result = await read_result(client, sql)
    (said,) = result["transcript"]
    assert set(words.split()) <= set(said["text"].split())
    assert (said["stream"], said["track"], result["sentiment"]) == (STREAM, "inbound", sentiment)
    assert said["start_ms"] == pytest.approx(500, abs=300)
    assert said["end_ms"] == pytest.approx(1_000 * len(audio) / RATE - 500, abs=400)


async def test_both_sides_of_a_conversation_are_told_in_turn(client: Client, sql: Sql) -> None:
    caller = speak(FLITE_MAN, "i have a problem with my computer")
    answer = speak(FLITE_MAN, "we will send you a new phone next week")
    await send(client, {"inbound": caller, "outbound": b"\xff" * len(caller) + answer})
    result = await read_result(client, sql)
    assert [said["track"] for said in result["transcript"]] == ["inbound", "outbound"]
    asked, told = (set(said["text"].split()) for said in result["transcript"])
    assert {"problem", "computer"} <= asked
    assert {"new", "phone", "week"} <= told


async def test_silence_on_the_telephone_is_an_empty_transcript(client: Client, sql: Sql) -> None:
    await send(client, {"inbound": b"\xff" * RATE})
    assert await read_result(client, sql) == {"transcript": [], "sentiment": "neutral"}


async def test_the_example_of_the_docs_works(dsn: str, sql: Sql, aiohttp_client: AiohttpClient) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace('node="web-1"', 'node="web-1", is_unsafe_durability_allowed=True'), names)
    client = await aiohttp_client(names["make_app"](dsn))
    await send(client, {"inbound": speak(FLITE_MAN, "i have a terrible problem with my computer")})
    result = await read_result(client, sql)
    assert result["sentiment"] == "negative"
    (shown,) = re.findall(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (said,), (wanted,) = result["transcript"], json.loads(shown)["transcript"]
    assert said["text"] == wanted["text"]
    assert set(said) == set(wanted)
