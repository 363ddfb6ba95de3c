"""Query parameters: strict models, and the one function that reads them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

from aiohttp import web
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from callactors.access import Grant
from callactors.errors import FieldError, InvalidCallId, InvalidFields
from callactors.packets import CALL_ID, MAX_SEQUENCE, EndReason, Stream, check_call_id
from callactors.states import CallState
from callactors.store.listing import Filters, Place, Sort
from callactors.strict_json import pointer
from callactors.web.guard import GRANT

_ALONE: Final = ("sort", "limit", "cursor")  # what makes no sense beside call_id


def _read_time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError(
        "invalid_time",
        "must be an ISO 8601 time with its offset, as 2026-11-24T03:52:23Z (a + is sent as %2B)",
    )


def _read_place(text: str) -> Place:
    place = Place.parse(text)
    if place is None:
        raise PydanticCustomError("invalid_cursor", "send a cursor as the page before told it, or none")
    return place


def _check_call_id(text: str) -> str:
    try:
        return check_call_id(text)
    except InvalidCallId as error:
        raise PydanticCustomError("invalid_call_id", "{text}", {"text": str(error)}) from None


def _limit(most: int, default: int) -> Any:
    return Field(default=default, ge=1, le=most)


Time = Annotated[datetime, BeforeValidator(_read_time)]
CallId = Annotated[str, AfterValidator(_check_call_id)]
Prefix = Annotated[
    str,
    Field(pattern=rf"^{CALL_ID.pattern}\z"),
    WithJsonSchema({"type": "string", "pattern": f"^{CALL_ID.pattern}$"}),  # JSON Schema has no \z
]
_CURSOR: Final = WithJsonSchema(
    {"type": "string", "minLength": 1, "description": "as the page before told it"}
)
After = Annotated[int, Field(ge=0, le=MAX_SEQUENCE)]


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)


class CallsQuery(_Query):
    """Which calls to list, and in which order."""

    state: list[CallState] | None = None
    end_reason: list[EndReason] | None = None
    has_gaps: Literal["true", "false"] | None = None
    since: Time | None = None
    until: Time | None = None
    q: Prefix | None = None
    call_id: Annotated[list[CallId], Field(max_length=100)] = []
    sort: Sort | None = None
    limit: int = _limit(200, 50)
    cursor: Annotated[Place, BeforeValidator(_read_place), _CURSOR] | None = None

    @property
    def order(self) -> Sort:
        """The order asked for, or the one that fits the other parameters."""
        return self.sort or (Sort.START if self.q is None else Sort.CALL_ID)

    @property
    def filters(self) -> Filters:
        has_gaps = None if self.has_gaps is None else self.has_gaps == "true"
        return Filters(self.state, self.end_reason, has_gaps, self.since, self.until, self.q)


class RetryQuery(_Query):
    """Which failed calls to retry, the newest first; with *dry_run* none is."""

    end_reason: list[EndReason] | None = None
    since: Time | None = None
    until: Time | None = None
    dry_run: Literal["true", "false"] = "false"
    limit: int = _limit(1_000, 200)
    cursor: Annotated[Place, BeforeValidator(_read_place), _CURSOR] | None = None


class EventsQuery(_Query):
    """Which events of a call."""

    after: After = 0
    limit: int = _limit(1_000, 200)


class PacketsQuery(_Query):
    """Which packets of a call."""

    stream: Stream = ""
    after: After | None = None
    limit: int = _limit(1_000, 100)


class AuditQuery(_Query):
    """Which lines of the audit."""

    before: Annotated[int, Field(ge=1, le=MAX_SEQUENCE)] | None = None
    limit: int = _limit(1_000, 100)


class _VendorQuery(_Query):
    """Vendors and their customers put parameters of their own into a URL: those are theirs."""

    model_config = ConfigDict(extra="ignore")


class MediaQuery(_VendorQuery):
    """Whose stream of JSON it is; by default found by what comes."""

    vendor: Literal["twilio", "signalwire", "fonoster", "telnyx", "plivo", "exotel"] | None = None


class BinaryMediaQuery(_VendorQuery):
    """Whose stream it is, by default found by what comes, and the call's id where the vendor tells none."""

    vendor: Literal["jambonz", "mod_audio_fork", "asterisk", "vonage"] | None = None
    call_id: CallId | None = None


class NoQuery(_Query):
    """No parameters."""


_Model = TypeVar("_Model", bound=BaseModel)


def read_query(request: web.Request, model: type[_Model]) -> _Model:
    """Return the parameters of *request*.

    Raises:
        InvalidFields: some are unknown, given twice, or not what they must be.
    """
    query, fields = request.query, model.model_fields
    found: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name in dict.fromkeys(query):
        values = query.getall(name)
        if name not in fields and model.model_config["extra"] == "ignore":
            continue
        if name not in fields:
            known = ", ".join(fields) or "none"
            errors.append(FieldError(pointer(name), "unknown", f"no such parameter; there are: {known}"))
        elif _is_list(fields[name].annotation):
            found[name] = values
        elif len(values) > 1:
            errors.append(FieldError(pointer(name), "repeated", "give it once"))
        else:
            found[name] = values[0]
    try:
        read = model.model_validate(found)
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False, include_context=False)
        errors += [FieldError(pointer(*e["loc"][:2]), e["type"], e["msg"]) for e in told]
    if errors:
        raise InvalidFields(errors[:20])
    return read


def read_calls_query(request: web.Request) -> CallsQuery:
    """Return the parameters of a list of calls.

    Raises:
        InvalidFields: they are wrong, or do not go together.
        CallNotAllowed: they name calls that the key is not for.
    """
    query = read_query(request, CallsQuery)
    if query.call_id:
        errors = [
            FieldError(pointer(name), "not_with_call_id", "leave it out: call_id names the calls")
            for name in _ALONE
            if name in query.model_fields_set
        ]
        if errors:
            raise InvalidFields(errors)
    if query.cursor is not None and query.cursor.sort is not query.order:
        detail = (
            f"this cursor is of sort={query.cursor.sort}: send it with the same sort, or begin without it"
        )
        raise InvalidFields([FieldError("/cursor", "other_sort", detail)])
    return _narrow(query, request[GRANT])


def _narrow(query: CallsQuery, grant: Grant) -> CallsQuery:
    """Return *query* for those calls only that *grant* is for.

    Raises:
        CallNotAllowed: it names others.
    """
    grant.check(query.call_id)
    if query.q is not None:
        grant.check([query.q])
    elif grant.prefix:
        return query.model_copy(update={"q": grant.prefix, "sort": query.order})
    return query


def _is_list(annotation: Any) -> bool:
    return any(get_origin(part) in (list, frozenset) for part in (annotation, *get_args(annotation)))
