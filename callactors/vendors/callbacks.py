"""What vendors' callbacks tell of the state of a call, in whichever words they tell it.

Callbacks come out of order, and more than once: nothing here looks at what came before.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from callactors.errors import InvalidCallId
from callactors.packets import EndReason, check_call_id
from callactors.vendors import words
from callactors.vendors.bodies import read_fields
from callactors.vendors.steps import Status, WrongCallback

MAX_TEXT: Final = 500  # characters of one field in a detail
_MAX_WORD: Final = 64  # characters of a status, and of each part of a key
_TOO_LARGE: Final = 2**63


def read_callback(vendor: str, content_type: str, body: bytes) -> Status | None:
    """Return what a callback of *vendor*, a key of VENDORS, tells; None if it is not of a call's state.

    Raises:
        WrongCallback: the vendor is unknown, or does not send such a callback.
    """
    read = VENDORS.get(vendor)
    if read is None:
        raise WrongCallback("no such vendor")
    return read(read_fields(content_type, body))


def read_twilio(fields: Mapping[str, Any], vendor: str = "twilio") -> Status | None:
    """Read a status callback of a call, or of a `<Stream>`.

    Source: Twilio's pages on the Call resource and on TwiML `<Stream>`; Telnyx documents the same names
    for TeXML, SignalWire for cXML. Without a SequenceNumber, the Timestamp tells callbacks apart, as text:
    Telnyx documents another format than it sends.
    """
    if event := _text(fields, "StreamEvent"):
        marks = (_text(fields, "StreamSid"), event, _text(fields, "Timestamp"))
        return _tell(vendor, _text(fields, "CallSid"), event, marks, None, _keep(fields, words.TWILIO_KEPT))
    status = _text(fields, "CallStatus")
    if not status:
        return None
    order = _text(fields, "SequenceNumber") or _text(fields, "Timestamp")
    ends, kept = words.TWILIO_ENDS.get(status), _keep(fields, words.TWILIO_KEPT)
    return _tell(vendor, _text(fields, "CallSid"), status, (order, status), ends, kept)


def read_plivo(fields: Mapping[str, Any]) -> Status | None:
    """Read what goes to a ring, answer or hangup URL, or to the status callback of a `<Stream>`.

    Source: Plivo's pages on the XML request, and on the audio stream.
    """
    event = _text(fields, "Event")
    if event in words.PLIVO_STREAM_EVENTS:
        marks = (_text(fields, "StreamID"), event, _text(fields, "Timestamp"))
        return _tell("plivo", _text(fields, "CallUUID"), event, marks, None, _keep(fields, words.PLIVO_KEPT))
    status = _text(fields, "CallStatus")
    if not status:
        return None
    ends, kept = words.PLIVO_ENDS.get(status), _keep(fields, words.PLIVO_KEPT)
    return _tell("plivo", _text(fields, "CallUUID"), status, (event, status), ends, kept)


def read_telnyx(fields: Mapping[str, Any]) -> Status | None:
    """Read a webhook of the Voice API.

    Source: Telnyx' pages on callbacks, and the values of hangup_cause there. A hangup without a cause, with
    `unspecified`, or with one that is new, only says that the call is over, as do `normal_clearing` and
    `time_limit`: such a call may have been answered, so it has not failed.
    """
    data = _object(fields, "data")
    event = _text(data, "event_type")
    if event not in words.TELNYX_STATES:
        return None
    payload = _object(data, "payload")
    ends = None
    if event == "call.hangup":
        ends = words.TELNYX_CAUSES.get(_text(payload, "hangup_cause"), EndReason.PROVIDER)
    event_id = _text(data, "id")
    marks = (event_id,) if event_id else (_text(data, "occurred_at"), event)
    kept = _keep({**payload, "occurred_at": data.get("occurred_at")}, words.TELNYX_KEPT)
    return _tell("telnyx", _text(payload, "call_control_id"), event, marks, ends, kept)


def read_jambonz(fields: Mapping[str, Any]) -> Status | None:
    """Read a call status webhook.

    Source: jambonz' pages on webhooks. Over HTTP nothing but the status tells callbacks of a call apart.
    """
    status = _text(fields, "call_status")
    if not status:
        return None
    marks = (_text(fields, "msgid"), status)
    kept = _keep(fields, words.JAMBONZ_KEPT)
    return _tell("jambonz", _text(fields, "call_sid"), status, marks, words.TWILIO_ENDS.get(status), kept)


def read_vonage(fields: Mapping[str, Any]) -> Status | None:
    """Read an event of the Voice API.

    Source: Vonage's webhook reference; the event of machine detection has `call_uuid` in place of `uuid`.
    `disconnected` is of a WebSocket, and the call goes on.
    """
    status = _text(fields, "status")
    if not status:
        return None
    call_id = _text(fields, "uuid") or _text(fields, "call_uuid")
    marks = (_text(fields, "timestamp"), status, _text(fields, "sub_state"))
    return _tell(
        "vonage", call_id, status, marks, words.VONAGE_ENDS.get(status), _keep(fields, words.VONAGE_KEPT)
    )


VENDORS: Final[Mapping[str, Callable[[Mapping[str, Any]], Status | None]]] = {
    "twilio": read_twilio,
    "texml": partial(read_twilio, vendor="texml"),
    "signalwire": partial(read_twilio, vendor="signalwire"),
    "plivo": read_plivo,
    "telnyx": read_telnyx,
    "jambonz": read_jambonz,
    "vonage": read_vonage,
}
"""How to read the fields of a callback, by the vendor's name in the URL."""


def _tell(
    vendor: str,
    call_id: str,
    status: str,
    marks: tuple[str, ...],
    ends: EndReason | None,
    detail: Mapping[str, Any],
) -> Status:
    """Return the Status; the *marks* that are there make its key."""
    try:
        check_call_id(call_id)
    except InvalidCallId:
        raise WrongCallback("the call's id is missing, or cannot be one here") from None
    if len(status) > _MAX_WORD:
        raise WrongCallback(f"the status has more than {_MAX_WORD} characters")
    key = ":".join(mark[:_MAX_WORD] for mark in marks if mark)
    return Status(call_id, vendor, status, key, ends, detail)


def _text(fields: Mapping[str, Any], name: str) -> str:
    """Return the text of a field, or of a whole number; "" if there is none."""
    value = fields.get(name)
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise WrongCallback(f"{name} is no text")


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise WrongCallback(f"{name} is no object")
    return value


def _keep(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the plain values of *names*' keys, under *names*' values; longer text is cut."""
    kept: dict[str, Any] = {}
    for theirs, ours in names.items():
        match fields.get(theirs):
            case str(text) if text:
                kept[ours] = text[:MAX_TEXT]
            case int() | float() as number:
                if not abs(number) < _TOO_LARGE:
                    raise WrongCallback(f"{theirs} is too large a number")
                kept[ours] = number
    return kept
