"""One call as each vendor would send it, after their documentation: synthetic ids, silence as audio."""

import copy
import json
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

from callactors.packets import Packet
from callactors.vendors.json_media import JsonMediaParser
from callactors.vendors.preamble import PREAMBLE_VENDORS, PreambleParser
from callactors.vendors.steps import MediaParser, Step

AUDIO: Final = bytes(160)
PAYLOAD: Final = b64encode(AUDIO).decode()
CALL_IDS: Final = {
    "twilio": "CA0123456789abcdef0123456789abcdef",
    "fonoster": "0c1d2e3f-0000-4000-8000-000000000001",
    "signalwire": "0c1d2e3f-0000-4000-8000-000000000002",
    "telnyx": "v3:Zm9vYmFy_-abc",
    "plivo": "0c1d2e3f-0000-4000-8000-000000000003",
    "exotel": "c0ffee0123456789",
    "jambonz": "0c1d2e3f-0000-4000-8000-000000000004",
    "mod_audio_fork": "0c1d2e3f-0000-4000-8000-000000000005",
    "asterisk": "pbx-1-1767225600.42",
    "vonage": "0c1d2e3f-0000-4000-8000-000000000006",
}
FIRST: Final[dict[str, dict[str, Any]]] = {
    "jambonz": {
        "callSid": CALL_IDS["jambonz"],
        "accountSid": "ac-1",
        "direction": "inbound",
        "from": "+15550100",
        "to": "+15550101",
        "callId": "sip-1",
        "sampleRate": 8_000,
        "mixType": "mono",
        "team": "sales",
    },
    "mod_audio_fork": {"call_uuid": CALL_IDS["mod_audio_fork"], "sampleRate": 8_000, "team": "sales"},
    "asterisk": {
        "event": "MEDIA_START",
        "connection_id": "media1",
        "channel": "WebSocket/media1/0x1",
        "channel_id": CALL_IDS["asterisk"],
        "format": "ulaw",
        "optimal_frame_size": 160,
        "ptime": 20,
        "channel_variables": {"team": "sales"},
    },
    "vonage": {
        "event": "websocket:connected",
        "content-type": "audio/l16;rate=8000",
        "uuid": CALL_IDS["vonage"],
        "team": "sales",
    },
}
PLAIN_START: Final = (
    f"MEDIA_START connection_id:media1 channel:WebSocket/media1/0x1 channel_id:{CALL_IDS['asterisk']}"
    " format:ulaw optimal_frame_size:160"
)
DTMF: Final = {
    "jambonz": {"event": "dtmf", "dtmf": "2", "duration": "1600"},
    "mod_audio_fork": {"event": "dtmf", "dtmf": "2"},
    "asterisk": {"event": "DTMF_END", "channel_id": CALL_IDS["asterisk"], "digit": "2"},
    "vonage": {"event": "websocket:dtmf", "digit": "2", "duration": 260},
}


def _twilio(call: str, sequence: int, event: str, **fields: Any) -> dict[str, Any]:
    return {"event": event, "sequenceNumber": str(sequence), "streamSid": f"MZ-{call}", **fields}


def twilio(vendor: str) -> list[dict[str, Any]]:
    call, stream = CALL_IDS[vendor], f"MZ-{CALL_IDS[vendor]}"
    start = {
        "streamSid": stream,
        "accountSid": "AC1",
        "callSid": call,
        "tracks": ["inbound", "outbound"],
        "customParameters": {"team": "sales"},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8_000, "channels": 1},
    }
    inbound = {"track": "inbound", "chunk": "1", "timestamp": "20", "payload": PAYLOAD}
    outbound = {"track": "outbound", "chunk": "1", "timestamp": "40", "payload": PAYLOAD}
    return [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        _twilio(call, 1, "start", start=start),
        _twilio(call, 2, "media", media=inbound),
        _twilio(call, 3, "media", media=outbound),
        _twilio(call, 4, "dtmf", dtmf={"track": "inbound_track", "digit": "2"}),
        _twilio(call, 5, "mark", mark={"name": "greeting"}),
        _twilio(call, 6, "stop", stop={"accountSid": "AC1", "callSid": call}),
    ]


def signalwire() -> list[dict[str, Any]]:
    """Return Twilio's messages without the streamSid outside of the start."""
    messages = [
        {name: value for name, value in m.items() if name != "streamSid"} for m in twilio("signalwire")
    ]
    messages[0]["version"] = "0.2.0"
    messages[4]["dtmf"] = {"digit": "2", "duration": 100}
    del messages[6]["stop"]
    return messages


def _telnyx(sequence: int, event: str, **fields: Any) -> dict[str, Any]:
    return {"event": event, "sequence_number": str(sequence), "stream_id": "32de0dea", **fields}


def telnyx() -> list[dict[str, Any]]:
    start = {
        "user_id": "user-1",
        "call_control_id": CALL_IDS["telnyx"],
        "call_session_id": "session-1",
        "client_state": "YQ==",
        "from": "+15550100",
        "to": "+15550101",
        "media_format": {"encoding": "PCMU", "sample_rate": 8_000, "channels": 1},
        "custom_parameters": {"team": "sales"},
    }
    media = {"track": "inbound", "chunk": "2", "timestamp": "20", "payload": PAYLOAD}
    return [
        {"event": "connected", "version": "1.0.0"},
        _telnyx(1, "start", start=start),
        _telnyx(2, "media", media=media),
        _telnyx(3, "media", media={**media, "timestamp": "40"}),
        _telnyx(4, "dtmf", dtmf={"digit": "2"}),
        _telnyx(5, "mark", mark={"name": "greeting"}),
        _telnyx(6, "stop", stop={"user_id": "user-1", "call_control_id": CALL_IDS["telnyx"]}),
    ]


def _plivo(sequence: int, event: str, **fields: Any) -> dict[str, Any]:
    return {"event": event, "sequenceNumber": sequence, "streamId": "b77e037d", **fields}


def plivo() -> list[dict[str, Any]]:
    start = {
        "callId": CALL_IDS["plivo"],
        "streamId": "b77e037d",
        "accountId": "MA1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8_000},
    }
    first = {"event": "start", "sequenceNumber": 1, "start": start, "extra_headers": "team=sales"}
    media = {"track": "inbound", "chunk": 1, "timestamp": "1767225600020", "payload": PAYLOAD}
    return [
        first,
        _plivo(2, "media", media=media),
        _plivo(3, "media", media={**media, "timestamp": "1767225600040"}),
        _plivo(4, "dtmf", dtmf={"track": "inbound", "digit": "2", "timestamp": "1767225600050"}),
        _plivo(5, "playedStream", name="greeting"),
    ]


def _exotel(sequence: int, event: str, **fields: Any) -> dict[str, Any]:
    return {"event": event, "sequence_number": str(sequence), "stream_sid": "MZ9", **fields}


def exotel() -> list[dict[str, Any]]:
    start = {
        "stream_sid": "MZ9",
        "call_sid": CALL_IDS["exotel"],
        "account_sid": "exo-1",
        "from": "+15550100",
        "to": "+15550101",
        "custom_parameters": {"team": "sales"},
        "media_format": {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"},
    }
    return [
        {"event": "connected"},
        _exotel(1, "start", start=start),
        _exotel(2, "media", media={"chunk": "1", "timestamp": "20", "payload": PAYLOAD}),
        _exotel(3, "media", media={"chunk": "2", "timestamp": "40", "payload": PAYLOAD}),
        _exotel(4, "dtmf", dtmf={"digit": "2", "duration": "100"}),
        _exotel(5, "mark", mark={"name": "greeting"}),
        _exotel(
            6, "stop", stop={"call_sid": CALL_IDS["exotel"], "account_sid": "exo-1", "reason": "callended"}
        ),
    ]


JSON_CALLS: Final = {
    "twilio": twilio("twilio"),
    "fonoster": twilio("fonoster"),
    "signalwire": signalwire(),
    "telnyx": telnyx(),
    "plivo": plivo(),
    "exotel": exotel(),
}


def call_of(vendor: str) -> list[str | bytes]:
    """Return the messages of a call: two of media, a digit, and a mark or a text if the vendor has one."""
    if vendor in JSON_CALLS:
        return [json.dumps(message) for message in JSON_CALLS[vendor]]
    more = ["hello"] if vendor == "mod_audio_fork" else []
    return [json.dumps(FIRST[vendor]), AUDIO, AUDIO, json.dumps(DTMF[vendor]), *more]


EVERY: Final = [*JSON_CALLS, *PREAMBLE_VENDORS]
WITH_STOP: Final = [vendor for vendor in JSON_CALLS if vendor != "plivo"]
TAKEN_FOR: Final = {"fonoster": "twilio"}  # sends the same
NUMBERS: Final = dict.fromkeys(("telnyx", "exotel"), "sequence_number")
STREAMS: Final = {"telnyx": "stream_id", "plivo": "streamId", "exotel": "stream_sid"}


def parser(
    vendor: str, *, given: bool = False, store_media: bool = True, call_id: str | None = None
) -> MediaParser:
    told = vendor if given else None
    if vendor in JSON_CALLS:
        return JsonMediaParser(told, store_media=store_media)
    return PreambleParser(told, connection="connection-1", call_id=call_id, store_media=store_media)


def feed(parser: MediaParser, messages: Iterable[str | bytes | dict[str, Any]]) -> list[Step]:
    steps: list[Step] = []
    for message in messages:
        if isinstance(message, bytes):
            steps += parser.binary(message)
        else:
            steps += parser.text(message if isinstance(message, str) else json.dumps(message))
    return steps


def packets(steps: Iterable[Step]) -> list[Packet]:
    return [step for step in steps if isinstance(step, Packet)]


def started(vendor: str, *, store_media: bool = True) -> MediaParser:
    made = parser(vendor, store_media=store_media)
    is_json = vendor in JSON_CALLS
    feed(made, call_of(vendor)[: 1 if vendor == "plivo" or not is_json else 2])
    return made


def message(vendor: str, event: str) -> dict[str, Any]:
    return copy.deepcopy(next(m for m in JSON_CALLS[vendor] if m["event"] == event))
