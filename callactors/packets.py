"""What comes in from the wire: strict models, and the two functions that read them."""

import re
from enum import StrEnum
from math import isfinite
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from callactors.errors import DataTooLong, FieldError, InputError, InvalidCallId, InvalidFields, InvalidJson
from callactors.strict_json import pointer, read_json

MAX_SEQUENCE: Final = 2**63 - 1
MAX_DATA: Final = 262_144
MAX_TIMESTAMP: Final = 4_102_444_800.0  # 2100-01-01 in seconds; milliseconds sent as seconds are beyond it

CALL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_RESERVED_CALL_IDS: Final = frozenset({"stream", "complete"})
_LEAST_QUOTES: Final = 8  # in a packet: of three keys and the data
_CODES: Final = {"greater_than_equal": "out_of_range", "less_than_equal": "out_of_range"}


class PacketKind(StrEnum):
    """What a packet holds; START, STOP and MARK only tell of the stream, the AI step has no use for them."""

    MEDIA = "media"
    DTMF = "dtmf"
    TEXT = "text"
    MARK = "mark"
    START = "start"
    STOP = "stop"

    @property
    def is_content(self) -> bool:
        """Whether it is a part of what was said or keyed in."""
        return self not in (PacketKind.MARK, PacketKind.START, PacketKind.STOP)


class EndReason(StrEnum):
    """Why a call ended."""

    API = "api"
    STREAM_STOPPED = "stream_stopped"
    STREAM_DROPPED = "stream_dropped"
    PROVIDER = "provider"
    IDLE_TIMEOUT = "idle_timeout"
    MAX_DURATION = "max_duration"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    FAILED = "failed"
    CANCELED = "canceled"
    POISON = "poison"


_SERVERS_REASONS: Final = {EndReason.POISON, EndReason.IDLE_TIMEOUT, EndReason.MAX_DURATION}
_CLIENTS_REASONS: Final = WithJsonSchema(
    {"type": "string", "enum": [reason.value for reason in EndReason if reason not in _SERVERS_REASONS]}
)


def _storable(text: str) -> str:
    """PostgreSQL's text has no NUL; pydantic itself refuses lone surrogates."""
    if "\x00" in text:
        raise PydanticCustomError("invalid_text", "contains U+0000: send binary data as base64")
    return text


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and not isfinite(value):
        raise PydanticCustomError("finite_number", "has a number that is not finite")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _finite(item)
    return value


def _not_milliseconds(value: float) -> float:
    if value > MAX_TIMESTAMP:
        raise PydanticCustomError(
            "out_of_range", "must be seconds since 1970 and before 2100, not milliseconds"
        )
    return value


Sequence = Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]
Stream = Annotated[str, Field(max_length=128), AfterValidator(_storable)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_finite)]


class _WireModel(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)


class Packet(_WireModel):
    """One packet of a call's stream, as the client sends it."""

    sequence: Sequence
    data: Annotated[str, Field(max_length=MAX_DATA, repr=False), AfterValidator(_storable)]
    timestamp: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, json_schema_extra={"maximum": MAX_TIMESTAMP}),
        AfterValidator(_not_milliseconds),
    ]
    stream: Stream = ""
    kind: Annotated[PacketKind, Field(strict=False)] = PacketKind.MEDIA


class CompleteRequest(_WireModel):
    """The optional body of a complete: what the sender sent last, and why the call ended."""

    last_sequence: dict[Stream, Sequence] = Field(default_factory=dict, max_length=1_000)
    reason: Annotated[EndReason, Field(strict=False), _CLIENTS_REASONS] = EndReason.API
    metadata: Metadata = Field(default_factory=dict)


def build_models() -> None:
    """Build the models, which else the first packet and the first complete would wait for."""
    for model in (Packet, CompleteRequest):
        model.model_rebuild()


def read_packet(body: bytes | str) -> Packet:
    """Return the packet in *body*, a JSON object in UTF-8.

    Raises:
        InvalidUtf8, InvalidJson, JsonTooDeep, DuplicateKey, InvalidText: *body* is not JSON as we take it.
        InvalidFields: it is, but not a packet.
    """
    try:
        packet: Packet = Packet.__pydantic_validator__.validate_json(body)
    except ValidationError as error:
        raise _find_wrong_json(body) or explain(error) from None
    quotes = body.count(b'"') if isinstance(body, bytes) else body.count('"')
    if quotes != _LEAST_QUOTES and not _has_keys_once(packet, body, quotes):
        read_json(body)  # raises
    return packet


def read_complete(body: bytes | str) -> CompleteRequest:
    """Return the request in *body*; an empty body is a request with every default.

    Raises:
        InvalidUtf8, InvalidJson, JsonTooDeep, DuplicateKey, InvalidText: *body* is not JSON as we take it.
        InvalidFields: it is, but not a complete request.
    """
    return make_complete(read_json(body)) if body.strip() else CompleteRequest()


def make_complete(fields: Any) -> CompleteRequest:
    """Return the request with *fields*, which read_json has read.

    Raises:
        InvalidFields: they are wrong.
    """
    if not isinstance(fields, dict):
        raise InvalidFields([FieldError("", "model_type", "must be a JSON object")])
    try:
        request = CompleteRequest.model_validate(fields)
    except ValidationError as error:
        raise explain(error) from None
    if request.reason in _SERVERS_REASONS:
        raise InvalidFields([FieldError("/reason", "reserved", "only the server ends calls for this")])
    return request


def check_call_id(call_id: str) -> str:
    """Return *call_id*, or raise InvalidCallId."""
    if CALL_ID.fullmatch(call_id) is None or call_id in _RESERVED_CALL_IDS:
        raise InvalidCallId
    return call_id


def explain(error: ValidationError) -> InputError:
    """Turn pydantic's findings into ours, without the input that caused them."""
    found = [
        FieldError(pointer(*e["loc"]), _CODES.get(e["type"], e["type"]), e["msg"])
        for e in error.errors(include_url=False, include_input=False)[:20]
    ]
    if found[0].code == "json_invalid":
        return InvalidJson(found[0].detail)
    if [(e.pointer, e.code) for e in found] == [("/data", "string_too_long")]:
        return DataTooLong(MAX_DATA)
    return InvalidFields(found)


def _find_wrong_json(body: bytes | str) -> InputError | None:
    try:
        read_json(body)
    except InputError as error:
        return error
    return None


def _has_keys_once(packet: Packet, body: bytes | str, quotes: int) -> bool:
    """Whether no key is there twice, which pydantic lets pass: every string in *body* is a key or a field."""
    found = packet.model_fields_set
    wanted = 2 * (len(found) + 1 + ("stream" in found) + ("kind" in found))
    if quotes == wanted:
        return True
    raw = body if isinstance(body, bytes) else body.encode()
    if rb"\\" in raw:
        raw = raw.replace(rb"\\", b"")
    return quotes - raw.count(rb"\"") == wanted
