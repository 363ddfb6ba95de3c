"""What a decision about a call leaves: the facts that change, what is to be committed, and what is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from callactors.legs import NO_LEGS, Legs
from callactors.packets import EndReason, Packet
from callactors.sequence import Range, StreamSequence
from callactors.states import CallState


class EventKind(StrEnum):
    TRANSITION = "transition"
    ATTEMPT = "attempt"
    STREAM = "stream"
    STATUS = "status"
    ERASED = "erased"


class Event(NamedTuple):
    """One line of the event log; `version` counts the events of a call from 1 without holes.

    The first comes from no state: the call begins.
    """

    version: int
    kind: EventKind
    from_state: CallState | None
    to_state: CallState
    attempt: int
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What an event may change. `wake_in` is the seconds from the last event to the call's next own step."""

    state: CallState = CallState.IN_PROGRESS
    version: int = 1
    generation: int = 1
    attempt: int = 0
    is_attempting: bool = False
    crashes: int = 0
    wake_in: float | None = None
    end_reason: EndReason | None = None


FRESH: Final = Facts()
"""Those of a call that has just begun, shared by all of them."""


BEGIN: Final = Event(1, EventKind.TRANSITION, None, CallState.IN_PROGRESS, 0, {})
"""The first of every call, which the claim writes that makes its row."""


class Row(NamedTuple):
    """What a commit writes to the call's row: absolute values as of one change.

    *size* are the characters of all packets' data, but for those committed between the last row and a crash.
    The call wakes `facts.wake_in` seconds after the commit if that has events, or the row *wakes_anew*.
    """

    facts: Facts
    streams: Mapping[str, StreamSequence]
    packets: int
    late: int
    duplicates: int
    size: int = 0
    legs: Legs = NO_LEGS
    metadata: Mapping[str, Any] | None = None
    result: Any = None
    last_error: Mapping[str, Any] | None = None
    is_released: bool = False
    wakes_anew: bool = False

    def over(self, earlier: "Row | None") -> "Row":
        """Return the row that has the effect of writing *earlier* and then this one."""
        if earlier is None:
            return self
        return self._replace(
            metadata={**(earlier.metadata or {}), **(self.metadata or {})} or None,
            result=earlier.result if self.result is None else self.result,
            last_error=earlier.last_error if self.last_error is None else self.last_error,
            wakes_anew=earlier.wakes_anew or self.wakes_anew,
        )


class Change(NamedTuple):
    """What one decision asks the journal to commit. An empty one only waits for those before it.

    Several packets are of one stream, and their sequences follow each other.
    """

    packets: Sequence[Packet] = ()
    is_repeat: bool = False
    row: Row | None = None
    events: tuple[Event, ...] = ()


class Accepted(NamedTuple):
    """The decision about a packet: the `gap` just before it, and all `gaps` of its stream after it.

    It may stand for several `packets` that came as expected, one after the other, of which it tells the last.
    """

    stream: str
    sequence: int
    is_duplicate: bool
    is_late: bool
    gap: Range | None
    total_received: int
    gaps: Sequence[Range]
    packets: int = 1


class Completed(NamedTuple):
    """The decision about a complete, and what each stream misses whose last sequence the sender told."""

    was_completed: bool
    state: CallState
    missing: Mapping[str, Sequence[Range]]
