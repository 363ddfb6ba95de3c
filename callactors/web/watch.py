"""What a supervisor wants to be told, from the query of its connection or from a message."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from callactors.facts import EventKind
from callactors.feed import FeedEvent
from callactors.packets import EndReason, explain
from callactors.states import CallState
from callactors.store.events import Cursor
from callactors.store.snapshot import Row
from callactors.web.parameters import CallId

_MAX_IDS: Final = 100


def _read_cursor(value: object) -> Cursor | None:
    cursor = Cursor.parse(value) if isinstance(value, str) else None
    if value is not None and cursor is None:
        raise PydanticCustomError("invalid_cursor", "send a cursor as an event told it")
    return cursor


def _split(values: object) -> object:
    """In a query several may stand in one value, between commas."""
    if not isinstance(values, list):
        return values
    return [part for value in values for part in (value.split(",") if isinstance(value, str) else [value])]


_SPLIT: Final = BeforeValidator(_split)
_CURSOR: Final = WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]})


class Watch(BaseModel):
    """What one supervisor wants to be told; an empty set does not narrow it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    snapshot: bool = False
    since: Annotated[Cursor | None, BeforeValidator(_read_cursor), _CURSOR] = None
    kinds: Annotated[frozenset[EventKind], _SPLIT] = frozenset()
    state: Annotated[frozenset[CallState], _SPLIT] = frozenset()
    call_id: Annotated[frozenset[CallId], Field(max_length=_MAX_IDS), _SPLIT] = frozenset()
    end_reason: Annotated[frozenset[EndReason], _SPLIT] = frozenset()

    def wants(self, told: FeedEvent) -> bool:
        """Whether to tell an event: transitions, kinds that were asked for, and what is to be forgotten."""
        event = told.logged
        if event.kind == EventKind.ERASED:  # whoever was told of the call, in whatever state
            return not self.call_id or event.call_id in self.call_id
        return (
            (event.kind == EventKind.TRANSITION or event.kind in self.kinds)
            and (not self.state or event.to_state in self.state or event.from_state in self.state)
            and (not self.call_id or event.call_id in self.call_id)
            and (not self.end_reason or told.end_reason in self.end_reason)
        )

    def wants_call(self, row: Row) -> bool:
        """Whether a snapshot has this call."""
        return (
            (not self.state or row.state in self.state)
            and (not self.call_id or row.call_id in self.call_id)
            and (not self.end_reason or row.end_reason in self.end_reason)
        )


def read_watch(fields: Mapping[str, Any]) -> Watch:
    """Return what *fields* ask for.

    Raises:
        InvalidFields: they are wrong.
    """
    try:
        return Watch.model_validate(fields)
    except ValidationError as error:
        raise explain(error) from None
