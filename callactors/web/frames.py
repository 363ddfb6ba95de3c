"""The frames of the WebSockets, for the description, as answers.py has it for the answers."""

from typing import Literal

from pydantic import Field

from callactors.packets import CompleteRequest
from callactors.processors.gate import GateState
from callactors.states import CallState
from callactors.web.answers import (
    Answer,
    CallId,
    CallSummary,
    CompletedCall,
    Count,
    Cursor,
    EventDetails,
    ProblemDetails,
    Time,
)
from callactors.web.watch import Watch


class CompleteFrame(CompleteRequest):
    """Ends the call behind the packets before it."""

    type: Literal["complete"]


class Ack(Answer):
    """The first *frames* frames are answered: stored, or refused before this."""

    type: Literal["ack"]
    frames: Count


class Refused(Answer):
    """A frame was not taken; the connection goes on."""

    type: Literal["refused"]
    frame: int
    problem: ProblemDetails


class Completed(CompletedCall):
    """The answer to a complete."""

    type: Literal["completed"]
    frame: int


class Subscribe(Watch):
    """Chooses anew what is told, from here on."""

    type: Literal["subscribe"]


class _Event(EventDetails):
    call_id: CallId
    state: CallState
    from_: CallState | None = Field(alias="from")
    version: int
    attempt: Count
    at: Time
    cursor: Cursor


class Transition(_Event):
    """A call has gone to another state."""

    type: Literal["event"]


class Attempt(_Event):
    """An attempt of the AI step has started or ended."""

    type: Literal["attempt"]


class VendorStream(_Event):
    """A vendor's stream of the call has begun, stopped, was dropped, or is back."""

    type: Literal["stream"]


class VendorStatus(_Event):
    """A vendor's callback has told of the call."""

    type: Literal["status"]


class Erased(_Event):
    """A call was erased: forget what you know of it."""

    type: Literal["erased"]


class Snapshot(Answer):
    """Calls as they are; with *last* it is whole. Forget what you knew with part 1."""

    type: Literal["snapshot"]
    part: int = Field(ge=1)
    last: bool
    cursor: Cursor
    calls: list[CallSummary]


class CursorGap(Answer):
    """What is behind your cursor cannot be told; a snapshot follows."""

    type: Literal["gap"]
    reason: Literal["unknown-log", "expired"]
    cursor: Cursor


class Bookmark(Answer):
    """You have been told all you want up to here."""

    type: Literal["bookmark"]
    cursor: Cursor
    at: Time


class Degraded(Answer):
    """Events come late; none is lost."""

    type: Literal["degraded"]
    reason: Literal["held-back", "storage-unavailable"]


class Recovered(Answer):
    """Events come in time again."""

    type: Literal["recovered"]


class AiStep(Answer):
    """The AI step pauses on this server, tries one call, or goes on."""

    type: Literal["ai_step"]
    state: GateState


class Subscribed(Answer):
    """The answer to a subscribe."""

    type: Literal["subscribed"]
    cursor: Cursor


class Bye(Answer):
    """The server is shutting down: come back after that time."""

    type: Literal["bye"]
    code: Literal[1012]
    retry_after_ms: int
