"""What the routes answer, for the description: the answers themselves are made by hand, and tests compare."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from callactors.facts import EventKind
from callactors.packets import EndReason, PacketKind
from callactors.processors.gate import GateState
from callactors.states import CallState

Count: TypeAlias = Annotated[int, Field(ge=0)]
Gap: TypeAlias = Annotated[list[int], Field(min_length=2, max_length=2)]
Gaps: TypeAlias = Annotated[
    list[Gap], Field(description="missing sequences, each range with both ends inclusive")
]
Time: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        description="UTC, with milliseconds",
        json_schema_extra={"format": "date-time"},
    ),
]
Cursor: TypeAlias = Annotated[str, Field(description="opaque")]
CallId: TypeAlias = Annotated[str, Field(min_length=1, max_length=128)]


def _drop_default(schema: dict[str, Any]) -> None:
    del schema["default"]


def may_be_absent(description: str | None = None) -> Any:
    """Return the field of a member that is left out where it does not apply, and never null."""
    return Field(default=None, description=description, json_schema_extra=_drop_default)


class Answer(BaseModel):
    """Members may be added in later versions: ignore those that you do not know."""

    model_config = ConfigDict(defer_build=True)


class AcceptedPacket(Answer):
    """The packet is stored."""

    status: Literal["accepted"]
    call_id: CallId
    stream: str
    sequence: Count
    duplicate: bool = Field(description="it was stored before")
    late: bool = Field(description="one with a higher sequence came before it")
    total_received: Count = Field(description="packets of the call, without duplicates")
    missing_sequences: Gaps = Field(description="the first 10 missing ranges of this stream")
    missing_count: Count = Field(description="all missing sequences of this stream")
    message: str


class AcceptedLines(Answer):
    """The packets of all lines are stored."""

    status: Literal["accepted"]
    call_id: CallId
    packets: Count = Field(description="lines with a packet")
    duplicates: Count
    late: Count
    total_received: Count = Field(description="packets of the call, without duplicates")
    missing_sequences: dict[str, Gaps] = Field(description="of each stream the first 10 missing ranges")
    missing_count: Count


class CompletedCall(Answer):
    """The call's end is stored, now or before."""

    status: Literal["accepted", "already_completed"]
    call_id: CallId
    state: CallState
    missing_sequences: dict[str, Gaps] = Field(description="of each stream named the first 10 missing ranges")
    missing_count: Count


class LastError(Answer):
    """Why the newest failed attempt failed, or what broke the call."""

    attempt: Count = may_be_absent()
    reason: str


class EventDetails(Answer):
    """What an event tells where it applies."""

    end_reason: EndReason = may_be_absent("why the call ended")
    generation: int = may_be_absent("of a retry by hand")
    last_error: LastError = may_be_absent()
    phase: Literal["started", "succeeded", "failed", "given back", "stopped", "dropped", "resumed"] = (
        may_be_absent("of an attempt, or of a vendor's stream")
    )
    reason: str = may_be_absent("why the attempt failed")
    retry_in: float = may_be_absent("seconds until the next attempt")
    stream: str = may_be_absent("of a vendor, that began or ended")
    vendor: str = may_be_absent("whose callback it is")
    status: str = may_be_absent("in the vendor's own word")
    told: dict[str, JsonValue] = may_be_absent("what the callback told beside it")


class LastEvent(EventDetails):
    """The last transition of a call."""

    kind: Literal["transition"]
    state: CallState
    from_: CallState | None = Field(alias="from")
    at: Time
    version: int


class CallSummary(Answer):
    """A call in short."""

    call_id: CallId
    state: CallState
    version: int = Field(description="rises with every event of the call")
    generation: int
    attempt: Count
    attempt_running: bool
    next_attempt_at: Time | None
    end_reason: EndReason | None
    crashes: Count
    packets: Count
    late: Count
    duplicates: Count
    missing_count: Count
    has_gaps: bool
    started_at: Time
    last_packet_at: Time | None
    completed_at: Time | None
    finished_at: Time | None


class ListedCall(CallSummary):
    """A call in a list."""

    last_event: LastEvent = may_be_absent("only with sort=transition")


class CallPage(Answer):
    """Some calls."""

    calls: list[ListedCall]
    cursor: Cursor | None = Field(description="of the next page; null: this was the last")


class StreamInCall(Answer):
    """What came of one stream."""

    highest: int
    missing: Gaps
    missing_count: Count
    packets: Count


class CallInDetail(CallSummary):
    """A call with all that is stored of it but packets and events."""

    max_attempts: int
    streams: dict[str, StreamInCall]
    metadata: dict[str, JsonValue] | None
    result: JsonValue
    last_error: LastError | None


class EventOfCall(EventDetails):
    """A transition of a call, a step of an attempt, or what a vendor told."""

    version: int
    kind: EventKind
    state: CallState
    from_: CallState | None = Field(alias="from")
    attempt: Count
    at: Time
    cursor: Cursor


class EventPage(Answer):
    """Some events of a call."""

    call_id: CallId
    events: list[EventOfCall]
    next: int | None = Field(description="`after` of the next page; null: this was the last")


class StoredPacket(Answer):
    """A packet as it came."""

    sequence: Count
    kind: PacketKind
    data: str
    timestamp: float
    received_at: Time


class PacketPage(Answer):
    """Some packets of a stream."""

    call_id: CallId
    stream: str
    packets: list[StoredPacket]
    next: int | None = Field(description="`after` of the next page; null: this was the last")


class ErasedCall(Answer):
    """Nothing is told or taken of the call any more; with "erased" nothing of it is stored either."""

    status: Literal["erasing", "erased"]
    call_id: CallId
    erased_at: Time


class RetriedCall(Answer):
    """The call's AI step runs again, from its first attempt."""

    status: Literal["accepted"]
    call_id: CallId
    generation: int


class CanceledCall(Answer):
    """The call has ended in FAILED, with the reason canceled."""

    status: Literal["accepted"]
    call_id: CallId


class RetriedCalls(Answer):
    """How many failed calls were found, and how many of them are retried now."""

    matched: Count
    retried: Count
    dry_run: bool
    cursor: Cursor | None = Field(description="of the next calls; null: these were the last")


class AuditLine(Answer):
    """Who did what, and to which call."""

    number: int
    at: Time
    actor: str
    action: str
    call_id: CallId | None
    detail: dict[str, JsonValue]


class AuditPage(Answer):
    """Lines of the audit, the newest first, and the *before* of the next page."""

    audit: list[AuditLine]
    next: int | None


class AttemptSeconds(Answer):
    """How long the newest attempts took."""

    p50: float | None
    p95: float | None
    attempts: Count


class Figures(Answer):
    """The figures of all calls on the database."""

    at: Time
    states: dict[CallState, Count] = Field(description="calls that have not ended")
    ended: dict[CallState, Count] = Field(description="calls that ended in the last hour")
    ended_is_bounded: bool = Field(description="100,000 have, and no more were looked at")
    retrying: Count
    failed_last_hour: Count
    packets_per_second: float
    attempt_seconds: AttemptSeconds


class Status(Answer):
    """`ok`, or what is wrong."""

    status: str


class Holder(Answer):
    """The database session that holds back the events."""

    kind: Literal["session", "prepared"]
    id: str
    database: str
    user: str
    application_name: str | None
    seconds: float | None


class AiStepInDetail(Answer):
    """The gate before the AI step, and the attempts that run and those that wait, on this server."""

    state: GateState
    running: Count
    waiting: Count


class StatusInDetail(Status):
    """`ok`, or what is wrong, with figures for who may see them."""

    resident_calls: Count
    storage_lag: float
    supervisors: Count
    supervisors_cut_off: Count
    feed_lag: float
    events_come_late: str | None
    ai_step: AiStepInDetail
    held_back_by: Holder | None = may_be_absent()
    cluster: Literal["joined", "alone"] | None = may_be_absent()


class WrongField(Answer):
    """What is wrong with a field or parameter."""

    pointer: str = Field(description="a JSON pointer (RFC 6901)")
    code: str
    detail: str


class ProblemDetails(Answer):
    """An error (RFC 9457)."""

    type: str = Field(description="a URI reference relative to the server", pattern="^/problems/[a-z0-9-]+$")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str = may_be_absent("the path; not in the refusal of a frame")
    errors: list[WrongField] = may_be_absent("of validation: what is wrong")
    line: int = may_be_absent("of NDJSON: the line that is wrong or was not taken, from 1")
    stored: int = may_be_absent("of NDJSON: how many leading lines are surely stored")
