"""The first text message of those who send audio as binary messages, and what it tells of the audio.

Sources: jambonz docs/webhooks/listen; drachtio's mod_audio_fork README; Asterisk Channel-Drivers/WebSocket
and chan_websocket.c; Vonage voice-api/concepts/websockets.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from callactors.vendors.fields import keep_metadata, name_event, read_call_id, read_strictly
from callactors.vendors.steps import WrongMessage

PREAMBLE_VENDORS: Final = ("jambonz", "mod_audio_fork", "asterisk", "vonage")
"""The vendors that PreambleParser reads."""

SUBPROTOCOLS: Final = ("audio.jambonz.org", "audio.drachtio.org", "audiostream.drachtio.org", "media")
"""Those of jambonz, mod_audio_fork and Asterisk; who asks for one expects it in the answer."""

_CALL_IDS: Final = ("callSid", "call_sid", "callId", "call_id", "uuid", "call_uuid")
_RATE: Final = re.compile(r"rate=([0-9]{4,6})")
_RATES: Final = range(1_000, 400_001)  # samples a second that anybody sends
_SAMPLE_SIZE: Final = 2  # bytes: L16
_ASTERISK_PTIME: Final = 20  # milliseconds; older releases do not tell it
_PLAIN_EVENT: Final = re.compile(r"[A-Z][A-Z_]{1,49}(?= |$)")
_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "jambonz": {
        "callSid": "call_sid",
        "accountSid": "account",
        "applicationSid": "application",
        "direction": "direction",
        "from": "from",
        "to": "to",
        "callId": "sip_call_id",
        "sbcCallid": "sbc_call_id",
        "callStatus": "call_status",
        "callerId": "caller_id",
        "sipStatus": "sip_status",
        "sipReason": "sip_reason",
        "traceId": "trace_id",
        "fsSipAddress": "sip_address",
        "sampleRate": "sample_rate",
        "mixType": "mix_type",
    },
    "mod_audio_fork": {},
    "asterisk": {
        "connection_id": "connection_id",
        "channel": "channel",
        "channel_id": "channel_id",
        "format": "format",
        "optimal_frame_size": "frame_size",
        "ptime": "frame_time",
        "channel_variables": "channel_variables",
    },
    "vonage": {"content-type": "content_type"},
}  # theirs and ours; what else they send is what their customers had them send


class Preamble(NamedTuple):
    """What the first text message tells; *byte_rate* in bytes a second, 0.0 if nobody knows."""

    vendor: str
    call_id: str
    metadata: Mapping[str, Any]
    byte_rate: float


def read_preamble(message: str, vendor: str, call_id: str | None) -> Preamble | str:
    """Return what *message* tells, or the name of an Asterisk event that may come before its MEDIA_START.

    The call is named by the preamble, and else by *call_id*. With Asterisk *call_id* goes first: MEDIA_START
    tells the id of the WebSocket's own channel, not of the caller's. "" as *vendor* has it recognised.

    Raises:
        WrongMessage: it is no preamble, not of this vendor, or without an id that is needed.
    """
    fields = read_control(message)
    vendor = vendor or _recognise(fields)
    if vendor == "asterisk":
        if fields.get("event") != "MEDIA_START":
            return name_event(fields.get("event"))
        found = call_id or fields.get("channel_id")
        return Preamble(vendor, _check(found), _tell(vendor, fields), _read_asterisk_rate(fields))
    if vendor == "vonage" and fields.get("event") != "websocket:connected":
        raise WrongMessage("vonage's first message is not websocket:connected: check ?vendor=")
    found = next((fields[name] for name in _CALL_IDS if fields.get(name)), call_id)
    return Preamble(vendor, _check(found), _tell(vendor, fields), _read_l16_rate(fields))


def read_control(message: str) -> Mapping[str, Any]:
    """Return the fields of a text message in JSON, or in Asterisk's plain form, `EVENT name:value …`.

    Raises:
        WrongMessage: it is neither.
    """
    event = _PLAIN_EVENT.match(message)
    if event is None:
        return read_strictly(message)
    if not message.isprintable():
        raise WrongMessage("the message holds what cannot be stored")
    pairs = (word.partition(":") for word in message[event.end() :].split())
    return {"event": event.group(), **{name: value for name, _, value in pairs if name != "event"}}


def _recognise(fields: Mapping[str, Any]) -> str:
    event = fields.get("event")
    if event == "websocket:connected":
        return "vonage"
    if isinstance(event, str) and event.startswith("MEDIA_"):
        return "asterisk"
    return "jambonz" if "callSid" in fields and "sampleRate" in fields else "mod_audio_fork"


def _check(call_id: object) -> str:
    if not call_id:
        raise WrongMessage("the first message names no call: name it in the URL with ?call_id=")
    return read_call_id(call_id)


def _tell(vendor: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    known = _NAMES[vendor]
    told = {ours: fields.get(theirs) for theirs, ours in known.items()}
    own = {name: value for name, value in fields.items() if name != "event" and name not in known}
    return keep_metadata({**told, "vendor": vendor, "custom_parameters": own or None})


def _read_l16_rate(fields: Mapping[str, Any]) -> float:
    told = fields.get("sampleRate", fields.get("sample_rate"))
    content_type = fields.get("content-type")
    if told is None and isinstance(content_type, str) and (found := _RATE.search(content_type)):
        told = found.group(1)
    channels = 2 if fields.get("mixType", fields.get("mix_type")) == "stereo" else 1
    return float(_read_number(told, _RATES) * _SAMPLE_SIZE * channels)


def _read_asterisk_rate(fields: Mapping[str, Any]) -> float:
    size = _read_number(fields.get("optimal_frame_size"), range(1, 65_501))
    return size * 1_000 / (_read_number(fields.get("ptime"), range(1, 1_001)) or _ASTERISK_PTIME)


def _read_number(value: object, allowed: range) -> int:
    """Return a number that came as such or in quotes, and 0 for all else."""
    if (
        isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) <= len(str(allowed.stop))
    ):
        value = int(value)
    return value if type(value) is int and value in allowed else 0
