"""What comes in from the wire: strict models, and the two functions that read them."""

import re
from enum import StrEnum
from math import isfinite
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from callactors.errors import FieldError, InputError, InvalidCallId, InvalidFields, InvalidJson

MAX_SEQUENCE: Final = 2**63 - 1
MAX_DATA: Final = 262_144
MAX_TIMESTAMP: Final = 4_102_444_800.0  # 2100-01-01 in seconds; milliseconds sent as seconds are beyond it

CALL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_RESERVED_CALL_IDS: Final = frozenset({"stream", "complete"})


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


def _storable_json(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        _storable(value)
    elif isinstance(value, float) and not isfinite(value):
        raise PydanticCustomError("finite_number", "has a number that is not finite")
    elif isinstance(value, dict):
        for key, item in value.items():
            _storable(key)
            _storable_json(item)
    elif isinstance(value, list):
        for item in value:
            _storable_json(item)
    return value


def _not_milliseconds(value: float) -> float:
    if value > MAX_TIMESTAMP:
        raise PydanticCustomError(
            "out_of_range", "must be seconds since 1970 and before 2100, not milliseconds"
        )
    return value


Sequence = Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]
Stream = Annotated[str, Field(max_length=128), AfterValidator(_storable)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_storable_json)]


class _WireModel(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


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


class CompleteRequest(_WireModel):
    """The optional body of a complete: what the sender sent last, and why the call ended."""

    last_sequence: dict[Stream, Sequence] = Field(default_factory=dict, max_length=1_000)
    reason: Annotated[EndReason, Field(strict=False), _CLIENTS_REASONS] = EndReason.API
    metadata: Metadata = Field(default_factory=dict)


_Model = TypeVar("_Model", Packet, CompleteRequest)


def read_packet(body: bytes | str) -> Packet:
    """Return the packet in *body*, a JSON object in UTF-8.

    Raises:
        InvalidJson: *body* is not JSON.
        InvalidFields: it is JSON, but not a packet.
    """
    return _read(Packet, body)


def read_complete(body: bytes | str) -> CompleteRequest:
    """Return the request in *body*; an empty body is a request with every default.

    Raises:
        InvalidJson: *body* is not JSON.
        InvalidFields: it is JSON, but not a complete request.
    """
    if not body.strip():
        return CompleteRequest()
    request = _read(CompleteRequest, body)
    if request.reason in _SERVERS_REASONS:
        raise InvalidFields([FieldError("/reason", "reserved", "only the server ends calls for this")])
    return request


def check_call_id(call_id: str) -> str:
    """Return *call_id*, or raise InvalidCallId."""
    if CALL_ID.fullmatch(call_id) is None or call_id in _RESERVED_CALL_IDS:
        raise InvalidCallId
    return call_id


def _read(model: type[_Model], body: bytes | str) -> _Model:
    try:
        return model.__pydantic_validator__.validate_json(body)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise explain(error) from None


def explain(error: ValidationError) -> InputError:
    """Turn pydantic's findings into ours, without the input that caused them."""
    found = error.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return InvalidJson(str(found[0]["msg"]).replace("Invalid JSON", "the body is not JSON", 1))
    return InvalidFields([FieldError(pointer(*e["loc"]), e["type"], e["msg"]) for e in found[:20]])


def pointer(*location: int | str) -> str:
    """Return the JSON pointer (RFC 6901) to *location*."""
    return "".join("/" + str(part)[:64].replace("~", "~0").replace("/", "~1") for part in location)
