"""Single fields of vendors' messages: what they may hold, and what becomes of them."""

import json
import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any, Final, Never

from callactors.errors import InputError
from callactors.packets import MAX_SEQUENCE, Packet, PacketKind, check_call_id
from callactors.strict_json import read_json
from callactors.vendors.steps import WrongMessage, bound_metadata, describe_media

MAX_NAME: Final = 128
"""Characters of a stream's name, which the packets allow."""

_MAX_EVENT: Final = 50
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.:-]")
_TRACK: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_DIGITS: Final = re.compile(r"[0-9A-Da-d*#]{1,32}")
_SEQUENCE: Final = re.compile(r"[0-9]{1,19}")


def _refuse_constant(name: str) -> Never:
    raise ValueError(name)


_read: Final = json.JSONDecoder(parse_constant=_refuse_constant).decode


def read_object(message: str) -> dict[str, Any]:
    """Return the object in *message*, quickly: what is kept of it has to be checked.

    Raises:
        WrongMessage: it is not JSON, or no object.
    """
    try:
        value = _read(message)
    except (ValueError, RecursionError):
        raise WrongMessage("the message is not JSON") from None
    if not isinstance(value, dict):
        raise WrongMessage("the message is JSON, but not an object")
    return value


def read_strictly(message: str) -> dict[str, Any]:
    """Return the object in *message*, all of whose texts can be stored.

    Raises:
        WrongMessage: it is not JSON as we take it, or no object.
    """
    try:
        value = read_json(message)
    except InputError:
        raise WrongMessage("the message is not JSON, or holds what cannot be stored") from None
    if not isinstance(value, dict):
        raise WrongMessage("the message is JSON, but not an object")
    return value


def read_event(fields: Mapping[str, Any]) -> str:
    """Return the name of the event, or raise WrongMessage."""
    event = fields.get("event")
    if not isinstance(event, str):
        raise WrongMessage("the message has no event")
    return event


def name_event(event: object) -> str:
    """Return *event* as it may stand in a log: at most 50 characters, none of them a surprise."""
    return _UNSAFE.sub("?", event[:_MAX_EVENT]) if isinstance(event, str) else ""


def read_part(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object that is the field *name*, or raise WrongMessage."""
    part = fields.get(name)
    if not isinstance(part, dict):
        raise WrongMessage(f"the message has no object {name}")
    return part


def read_sequence(value: object) -> int | None:
    """Return a sequence that came as a number or in quotes; None if there is none.

    Raises:
        WrongMessage: it is no whole number from 0, or one of more than 63 bits.
    """
    if value is None:
        return None
    if isinstance(value, str) and _SEQUENCE.fullmatch(value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_SEQUENCE:
        raise WrongMessage("the sequence is not a whole number from 0 to 2^63 - 1")
    return value


def read_milliseconds(value: object, default: float) -> float:
    """Return seconds for milliseconds that came as a number or in quotes, and *default* for none.

    Raises:
        WrongMessage: it is not a number.
    """
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise WrongMessage("the timestamp is not a number")
    try:
        return float(value) / 1_000
    except (ValueError, OverflowError):
        raise WrongMessage("the timestamp is not a number") from None


def read_call_id(value: object) -> str:
    """Return *value* if a call can be named so, or raise WrongMessage."""
    try:
        return check_call_id(value if isinstance(value, str) else "")
    except InputError:
        raise WrongMessage("the id of the call is missing, or cannot be one here") from None


def keep_base64(payload: object, track: object, *, store_media: bool) -> str:
    """Return what is kept of audio in base64: itself, or what tells its length and digest.

    A *track* is kept in front: `{"track":…,"payload":…}` or `{"track":…,"length":…,"sha256":…}`.

    Raises:
        WrongMessage: the payload is not base64 (RFC 4648, section 4), or the track is no name.
    """
    if not isinstance(payload, str):
        raise WrongMessage("the media has no payload")
    try:
        audio = a2b_base64(payload, strict_mode=True)
    except ValueError:
        raise WrongMessage("the payload is not base64") from None
    kept = payload if store_media else describe_media(audio)
    if track is None:
        return kept
    if not isinstance(track, str) or _TRACK.fullmatch(track) is None:
        raise WrongMessage("the track is not a name")
    return f'{{"track":"{track}","payload":"{kept}"}}' if store_media else f'{{"track":"{track}",{kept[1:]}'


def keep_audio(audio: bytes, *, store_media: bool) -> str:
    """Return what is kept of *audio*: base64, or what tells its length and digest."""
    return b64encode(audio).decode() if store_media else describe_media(audio)


def keep_digit(digit: object, duration: object = None, track: object = None) -> str:
    """Return the digit alone, or JSON of digit, duration and track as they came, without what is missing.

    Raises:
        WrongMessage: the digit is none of 0-9, A-D, * and #, or the others are not what they should be.
    """
    if not isinstance(digit, str) or _DIGITS.fullmatch(digit) is None:
        raise WrongMessage("the digit is missing or none of 0-9, A-D, * and #")
    if track is not None and (not isinstance(track, str) or _TRACK.fullmatch(track) is None):
        raise WrongMessage("the track is not a name")
    if read_milliseconds(duration, 0.0) < 0:
        raise WrongMessage("the duration is less than 0")
    told = {"digit": digit, "duration": duration, "track": track}
    told = {name: value for name, value in told.items() if value is not None}
    return digit if len(told) == 1 else _dump(told)


def keep_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what of *metadata*, which read_strictly has read, is there and short enough to keep.

    Raises:
        WrongMessage: a number in it is infinite.
    """
    kept = {name: value for name, value in metadata.items() if value is not None}
    _dump(kept)
    return bound_metadata(kept)


def make_packet(sequence: int, data: str, timestamp: float, stream: str, kind: PacketKind) -> Packet:
    """Return the packet, or raise WrongMessage because a part of it cannot be stored."""
    try:
        return Packet(sequence=sequence, data=data, timestamp=timestamp, stream=stream, kind=kind)
    except ValueError:
        raise WrongMessage("the data is too long or no text, or the timestamp is out of range") from None


def _dump(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise WrongMessage("a number is not finite") from None
