"""What is sent in a call has the form that its vendor documents; the samples are those of their pages."""

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from callactors.packets import check_call_id
from callactors.simulate.actions import Action, Close, Send
from callactors.simulate.dialects import DIALECTS
from callactors.simulate.scripts import make_ids, make_script

NUMBERED = [name for name, dialect in DIALECTS.items() if dialect.is_numbered]
BINARY = [name for name, dialect in DIALECTS.items() if not dialect.is_numbered]
FRAME_BYTES = {"exotel": 1_600, "jambonz": 320, "audiofork": 320, "vonage": 640}

SAMPLES: dict[str, list[str]] = {
    "twilio": [
        '{"event":"connected","protocol":"Call","version":"1.0.0"}',
        '{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"streamSid":"MZ1","accountSid":"AC1",'
        '"callSid":"CA1","tracks":["inbound"],"customParameters":{"origin":"x"},'
        '"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}',
        '{"event":"media","sequenceNumber":"3","streamSid":"MZ1","media":{"track":"inbound","chunk":"1",'
        '"timestamp":"5","payload":"x"}}',
        '{"event":"dtmf","sequenceNumber":"5","streamSid":"MZ1","dtmf":{"track":"inbound_track","digit":"1"}}',
        '{"event":"mark","sequenceNumber":"4","streamSid":"MZ1","mark":{"name":"x"}}',
        '{"event":"stop","sequenceNumber":"5","streamSid":"MZ1","stop":{"accountSid":"AC1","callSid":"CA1"}}',
    ],
    "signalwire": [
        '{"event":"connected","protocol":"Call","version":"0.2.0"}',
        '{"event":"start","sequenceNumber":"1","start":{"streamSid":"1","accountSid":"1","callSid":"1",'
        '"tracks":["inbound"],"customParameters":{"origin":"x"},'
        '"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}',
        '{"event":"media","sequenceNumber":"2","media":{"track":"inbound","chunk":"1","timestamp":"5",'
        '"payload":"x"}}',
        '{"event":"dtmf","sequenceNumber":"3","dtmf":{"digit":"1","duration":"100"}}',
        '{"event":"mark","sequenceNumber":"4","mark":{"name":"x"}}',
        '{"event":"stop","sequenceNumber":"5"}',
    ],
    "telnyx": [
        '{"event":"connected","version":"1.0.0"}',
        '{"event":"start","sequence_number":"1","stream_id":"1","start":{"user_id":"1","call_control_id":"v3:1",'
        '"client_state":"x","from":"+1","to":"+1",'
        '"media_format":{"encoding":"PCMU","sample_rate":8000,"channels":1}}}',
        '{"event":"media","sequence_number":"4","stream_id":"1","media":{"track":"inbound","chunk":"2",'
        '"timestamp":"5","payload":"x"}}',
        '{"event":"dtmf","sequence_number":"5","stream_id":"1","dtmf":{"digit":"1"}}',
        '{"event":"mark","sequence_number":"5","stream_id":"1","mark":{"name":"x"}}',
        '{"event":"stop","sequence_number":"5","stream_id":"1","stop":{"user_id":"1","call_control_id":"v3:1"}}',
    ],
    "plivo": [
        '{"event":"start","sequenceNumber":1,"start":{"callId":"1","streamId":"1","accountId":"1",'
        '"tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}},'
        '"extra_headers":"k=v"}',
        '{"event":"media","sequenceNumber":2,"streamId":"1","media":{"track":"inbound","chunk":1,'
        '"timestamp":"1","payload":"x"}}',
        '{"event":"dtmf","sequenceNumber":3,"streamId":"1","dtmf":{"track":"inbound","digit":"1",'
        '"timestamp":"1"}}',
    ],
    "exotel": [
        '{"event":"connected"}',
        '{"event":"start","sequence_number":"1","stream_sid":"MZ1","start":{"stream_sid":"MZ1","call_sid":"CA1",'
        '"account_sid":"AC1","from":"+1","to":"+1","custom_parameters":{"origin":"x"},'
        '"media_format":{"encoding":"audio/x-raw","sample_rate":"8000","bit_rate":"16"}}}',
        '{"event":"media","sequence_number":"3","stream_sid":"MZ1","media":{"chunk":"2","timestamp":"200",'
        '"payload":"x"}}',
        '{"event":"dtmf","sequence_number":"7","stream_sid":"MZ1","dtmf":{"digit":"5","duration":"100"}}',
        '{"event":"mark","sequence_number":"15","stream_sid":"MZ1","mark":{"name":"x"}}',
        '{"event":"stop","sequence_number":"20","stream_sid":"MZ1","stop":{"call_sid":"CA1","account_sid":"AC1",'
        '"reason":"callended"}}',
    ],
    "asterisk": [
        '{"event":"MEDIA_START","connection_id":"1","channel":"WebSocket/x/1","channel_id":"1","format":"ulaw",'
        '"optimal_frame_size":160,"ptime":20,"channel_variables":{"ORIGIN":"x"}}',
        '{"event":"DTMF_END","channel_id":"1","digit":"5"}',
    ],
    "vonage": [
        '{"event":"websocket:connected","content-type":"audio/l16;rate=16000","call_id":"1","uuid":"1",'
        '"origin":"x"}',
        '{"event":"websocket:dtmf","digit":"5","duration":260}',
    ],
}


def shape(value: Any) -> Any:
    """Return *value* with only the types of its leaves."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else type(value).__name__


def script_of(vendor: str, seconds: float = 1.0) -> list[Action]:
    return list(make_script(vendor, make_ids(DIALECTS[vendor], "run", 0), seconds))


def sends(vendor: str, seconds: float = 1.0) -> list[Send]:
    return [action for action in script_of(vendor, seconds) if isinstance(action, Send)]


def texts(vendor: str) -> Iterator[dict[str, Any]]:
    return (json.loads(send.frame) for send in sends(vendor) if isinstance(send.frame, str))


@pytest.mark.parametrize("vendor", SAMPLES)
def test_messages_have_the_documented_form(vendor: str) -> None:
    sent = [shape(text) for text in texts(vendor)]
    documented = [shape(json.loads(sample)) for sample in SAMPLES[vendor]]
    assert all(text in documented for text in sent)
    assert all(text in sent for text in documented)


@pytest.mark.parametrize("vendor", NUMBERED)
def test_numbers_are_those_in_the_messages_and_rise_by_one(vendor: str) -> None:
    sent = [send for send in sends(vendor) if send.sequence is not None]
    told = [json.loads(send.frame) for send in sent]
    numbers = [int(text.get("sequenceNumber", text.get("sequence_number"))) for text in told]
    assert numbers == [send.sequence for send in sent] == list(range(1, len(sent) + 1))


@pytest.mark.parametrize("vendor", NUMBERED)
def test_what_has_no_number_is_only_the_connected(vendor: str) -> None:
    assert all('"connected"' in str(send.frame) for send in sends(vendor) if send.sequence is None)


@pytest.mark.parametrize("vendor", NUMBERED)
def test_media_carry_audio_of_the_length_of_a_frame(vendor: str) -> None:
    media = [text["media"] for text in texts(vendor) if text["event"] == "media"]
    frames = DIALECTS[vendor].frames
    assert [int(one["chunk"]) for one in media] == list(range(1, frames + 1))
    assert [int(one["timestamp"]) for one in media] == list(range(0, 1_000, 1_000 // frames))
    assert {len(b64decode(one["payload"])) for one in media} == {FRAME_BYTES.get(vendor, 160)}


@pytest.mark.parametrize("vendor", BINARY)
def test_binary_vendors_send_a_text_and_then_audio(vendor: str) -> None:
    first, *rest = sends(vendor)
    assert isinstance(first.frame, str)
    audio = [send.frame for send in rest if isinstance(send.frame, bytes)]
    assert {len(frame) for frame in audio} == {FRAME_BYTES.get(vendor, 160)}
    assert len(audio) == 50
    assert [send.sequence for send in (first, *rest)] == list(range(1, len(rest) + 2))


@pytest.mark.parametrize("vendor", DIALECTS)
def test_frames_are_sent_when_they_are_full_and_audio_goes_round(vendor: str) -> None:
    seconds, frames = 2.5, DIALECTS[vendor].frames
    script = script_of(vendor, seconds)
    times = [action.at for action in script]
    assert times == sorted(times)
    assert {round(at * frames, 6) for at in times} == set(range(int(seconds * frames) + 1))
    assert script[-1] == Close(seconds)


@pytest.mark.parametrize("vendor", DIALECTS)
def test_a_call_of_no_seconds_has_one_frame(vendor: str) -> None:
    assert [action.at for action in script_of(vendor, 0.0)][-1] == 1 / DIALECTS[vendor].frames


@pytest.mark.parametrize("vendor", DIALECTS)
def test_ids_are_good_and_differ_between_calls_and_runs(vendor: str) -> None:
    dialect = DIALECTS[vendor]
    made = [make_ids(dialect, run, number) for run in ("a", "b") for number in range(3)]
    assert len({check_call_id(ids.call) for ids in made} | {ids.stream for ids in made}) == 12
    assert make_ids(dialect, "a", 0) == made[0]


@pytest.mark.parametrize("vendor", DIALECTS)
def test_the_call_is_named_in_the_start(vendor: str) -> None:
    ids = make_ids(DIALECTS[vendor], "run", 0)
    (start,) = (str(send.frame) for send in sends(vendor) if send.sequence == 1)
    assert f'"{ids.call}"' in start
