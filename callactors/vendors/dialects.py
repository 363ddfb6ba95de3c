"""How the vendors of JSON media streams name what all of them send.

Sources: Twilio docs/voice/media-streams/websocket-messages; SignalWire cXML <Stream>; Fonoster reference/
twilio-compatibility; Telnyx api-reference/websockets/stream-call-media-over-websocket; Plivo docs/voice/
audio-streaming; Exotel docs/agentstream/websocket-protocol.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from callactors.vendors.fields import (
    MAX_NAME,
    keep_metadata,
    read_call_id,
    read_part,
    read_sequence,
    read_strictly,
)
from callactors.vendors.steps import Begin, WrongMessage

UNRECOGNISED: Final = "these messages are of no vendor we know: name it in the URL with ?vendor="


class Dialect(NamedTuple):
    """The names of fields: in all messages, and in the start; *more* are those that the start alone has."""

    sequence: str
    stream: str
    call: str
    account: str
    parameters: str
    media_format: str
    more: tuple[str, ...] = ()


class Start(NamedTuple):
    """What a start message tells; *sequence* is None if it has none."""

    vendor: str
    begin: Begin
    sequence: int | None


_TWILIO: Final = Dialect(
    "sequenceNumber", "streamSid", "callSid", "accountSid", "customParameters", "mediaFormat"
)
_TELNYX: Final = Dialect(
    "sequence_number",
    "stream_id",
    "call_control_id",
    "user_id",
    "custom_parameters",
    "media_format",
    ("call_session_id", "client_state", "tags"),
)
_PLIVO: Final = Dialect("sequenceNumber", "streamId", "callId", "accountId", "extra_headers", "mediaFormat")
_EXOTEL: Final = Dialect(
    "sequence_number", "stream_sid", "call_sid", "account_sid", "custom_parameters", "media_format"
)
DIALECTS: Final[Mapping[str, Dialect]] = {
    "twilio": _TWILIO,
    "signalwire": _TWILIO,
    "fonoster": _TWILIO,
    "telnyx": _TELNYX,
    "plivo": _PLIVO,
    "exotel": _EXOTEL,
}
JSON_VENDORS: Final = tuple(DIALECTS)
"""The vendors that JsonMediaParser reads."""

_COMMON: Final = ("from", "to", "tracks")
_FORMAT: Final = {
    "encoding": "encoding",
    "sampleRate": "sample_rate",
    "sample_rate": "sample_rate",
    "bit_rate": "bit_rate",
    "channels": "channels",
}


def read_start(message: str, vendor: str) -> Start:
    """Return what a start message tells; "" as *vendor* has it recognised.

    Fonoster sends exactly what Twilio sends, so that it is recognised as Twilio.

    Raises:
        WrongMessage: it is of no vendor, not of this one, or without an id that is needed.
    """
    fields = read_strictly(message)
    start = read_part(fields, "start")
    vendor = vendor or _recognise(fields, start)
    dialect = DIALECTS[vendor]
    stream = start.get(dialect.stream) or fields.get(dialect.stream)
    if not isinstance(stream, str) or not 0 < len(stream) <= MAX_NAME:
        raise WrongMessage(f"the start message has no {dialect.stream} as {vendor} sends it: check ?vendor=")
    begin = Begin(read_call_id(start.get(dialect.call)), stream, _tell(vendor, fields, start))
    return Start(vendor, begin, read_sequence(fields.get(dialect.sequence)))


def _recognise(fields: Mapping[str, Any], start: Mapping[str, Any]) -> str:
    if "streamSid" in start and "callSid" in start:
        return "twilio" if "streamSid" in fields else "signalwire"
    if "stream_id" in fields and "call_control_id" in start:
        return "telnyx"
    if "streamId" in start and "callId" in start:
        return "plivo"
    if "stream_sid" in start and "call_sid" in start and "account_sid" in start:
        return "exotel"
    raise WrongMessage(UNRECOGNISED)


def _tell(vendor: str, fields: Mapping[str, Any], start: Mapping[str, Any]) -> Mapping[str, Any]:
    dialect = DIALECTS[vendor]
    parameters = start.get(dialect.parameters) or fields.get(dialect.parameters)
    audio = start.get(dialect.media_format)
    return keep_metadata(
        {
            "vendor": vendor,
            "account": start.get(dialect.account),
            **{name: start.get(name) for name in _COMMON + dialect.more},
            "custom_parameters": parameters or None,
            "media_format": _tell_format(audio) if isinstance(audio, dict) else None,
        }
    )


def _tell_format(audio: Mapping[str, Any]) -> Mapping[str, Any]:
    return {_FORMAT[name]: value for name, value in audio.items() if name in _FORMAT and value is not None}
