"""The states of a call and the one table that leads from each to the next."""

from enum import StrEnum
from functools import cache

from transitions import Machine, MachineError

from callactors.errors import BadTransition


class CallState(StrEnum):
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    PROCESSING_AI = "PROCESSING_AI"
    ARCHIVED = "ARCHIVED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether the call has ended; only a person's retry leads on from FAILED."""
        return self in (CallState.ARCHIVED, CallState.FAILED)

    @property
    def takes_packets(self) -> bool:
        """Whether new packets are taken: until the AI step starts."""
        return self in (CallState.IN_PROGRESS, CallState.COMPLETED)


class Trigger(StrEnum):
    COMPLETE = "complete"
    PROCESS = "process"
    ARCHIVE = "archive"
    FAIL = "fail"
    RETRY = "retry"


TRANSITIONS = (
    (Trigger.COMPLETE, CallState.IN_PROGRESS, CallState.COMPLETED),
    (Trigger.PROCESS, CallState.COMPLETED, CallState.PROCESSING_AI),
    (Trigger.ARCHIVE, CallState.PROCESSING_AI, CallState.ARCHIVED),
    (Trigger.FAIL, CallState.PROCESSING_AI, CallState.FAILED),
    (Trigger.RETRY, CallState.FAILED, CallState.PROCESSING_AI),
)

_MACHINE = Machine(
    model=None,
    states=list(CallState),
    transitions=[[trigger, source, dest] for trigger, source, dest in TRANSITIONS],
    initial=CallState.IN_PROGRESS,
    auto_transitions=False,
)


class _Cell:
    """The throw-away model of one step: the shared machine holds no call."""

    __slots__ = ("state",)

    def __init__(self, state: CallState) -> None:
        self.state = state


@cache
def advance(state: CallState, trigger: Trigger) -> CallState:
    """Return the state that *trigger* leads to.

    Raises:
        BadTransition: *state* does not know *trigger*; nothing has changed.
    """
    cell = _Cell(state)
    try:
        _MACHINE.events[trigger].trigger(cell)
    except MachineError as error:
        raise BadTransition(state, trigger) from error
    return CallState(cell.state)
