"""Messages and replies as they go from server to server: a line with the type's name, then JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from callactors.errors import ActorFailed, CallError, Unavailable
from callactors.facts import Accepted, Completed, Row
from callactors.messages import (
    Accept,
    AcceptMany,
    BeginStream,
    CancelCall,
    Complete,
    Describe,
    DropStream,
    EndStream,
    Message,
    OwnMessage,
    RetryCall,
    TellStatus,
)

VERSION: Final = 1
"""Of this form. It stands in every subject, so that servers with another one do not hear each other."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as it is sent: its class, its text, and what it carries."""

    name: str
    text: str
    carries: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TooLong:
    """Instead of a reply that is too long for a message."""


_Outcomes = list[Accepted | Refusal]
_MESSAGES: Final[Mapping[str, TypeAdapter[Any]]] = {
    one.__name__: TypeAdapter(one)
    for one in (
        Accept,
        AcceptMany,
        BeginStream,
        CancelCall,
        Complete,
        Describe,
        DropStream,
        EndStream,
        RetryCall,
        TellStatus,
    )
}
_REPLIES: Final[Mapping[str, TypeAdapter[Any]]] = {
    one.__name__: TypeAdapter(one) for one in (Accepted, Completed, Row, Refusal, TooLong, int)
} | {"list": TypeAdapter(_Outcomes), "NoneType": TypeAdapter(None)}


def write_message(message: Message) -> bytes | None:
    """Return *message* as it is sent; None if it is an application's own, which stays on its server."""
    return None if isinstance(message, OwnMessage) else _write(message, _MESSAGES)


def read_message(data: bytes) -> Message:
    """Return what `write_message` has written.

    Raises:
        ValueError: *data* is no message.
    """
    message: Message = _read(data, _MESSAGES)
    return message


def write_reply(reply: object) -> bytes:
    """Return *reply* as it is sent: what an actor answers, or an error."""
    if isinstance(reply, Exception):
        reply = _refuse(reply)
    elif isinstance(reply, list):
        reply = [_refuse(one) if isinstance(one, Exception) else one for one in reply]
    return _write(reply, _REPLIES)


def read_reply(data: bytes) -> object:
    """Return what `write_reply` was given; errors are returned, not raised.

    Raises:
        ValueError: *data* is no reply.
    """
    reply = _read(data, _REPLIES)
    if isinstance(reply, list):
        return [_restore(one) if isinstance(one, Refusal) else one for one in reply]
    return _restore(reply) if isinstance(reply, Refusal) else reply


def _write(value: object, adapters: Mapping[str, TypeAdapter[Any]]) -> bytes:
    name = type(value).__name__
    return name.encode() + b"\n" + adapters[name].dump_json(value)


def _read(data: bytes, adapters: Mapping[str, TypeAdapter[Any]]) -> Any:
    name, _, rest = data.partition(b"\n")
    adapter = adapters.get(name.decode("ascii", "replace"))
    if adapter is None:
        raise ValueError("this is of no known type")
    return adapter.validate_json(rest)


def _refuse(error: Exception) -> Refusal:
    if type(error).__name__ not in _ERRORS:
        error = ActorFailed()
    return Refusal(type(error).__name__, str(error), dict(vars(error)))


def _restore(refusal: Refusal) -> Exception:
    kind = _ERRORS.get(refusal.name, ActorFailed)  # a newer server's may be unknown here
    error = kind.__new__(kind, refusal.text)
    vars(error).update(refusal.carries)
    return error


def _subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _subclasses(one)


_ERRORS: Final[Mapping[str, type[Exception]]] = {
    one.__name__: one for base in (CallError, Unavailable) for one in _subclasses(base)
}
