"""What vendors' messages come down to, whatever their dialect."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from callactors.packets import EndReason, Packet

MAX_METADATA: Final = 16_384
"""Characters of JSON that a vendor's metadata may have."""


class Begin(NamedTuple):
    """A stream of a call has begun; every Packet and the End that follow on this connection are of it."""

    call_id: str
    stream: str
    metadata: Mapping[str, Any]


class End(NamedTuple):
    """The stream is over, and with its last one the call, unless the vendor says that the call goes on."""

    ends_call: bool = True


class Ignored(NamedTuple):
    """A message that means nothing here: an event nobody knows, or one that tells nothing new."""

    event: str


Step = Begin | Packet | End | Ignored


class WrongMessage(Exception):
    """A message is not what the vendor documents; the text says what is wrong, and repeats none of it."""


class MediaParser(Protocol):
    """Reads what one connection brings, in order; it remembers the call and the stream.

    *ends_by_close* says that the vendor sends no stop: a connection that is closed in order ends the stream.
    """

    vendor: str
    ends_by_close: bool

    def text(self, message: str) -> Sequence[Step]:
        """Return what follows from a text message.

        Raises:
            WrongMessage: the vendor does not send such a message, or not now.
        """

    def binary(self, message: bytes) -> Sequence[Step]:
        """Return what follows from a binary message.

        Raises:
            WrongMessage: the vendor does not send such a message, or not now.
        """


class Status(NamedTuple):
    """What a callback tells about a call.

    *key* is the same in each repeat of a callback, and differs between callbacks of a call. *ends* is None
    if the call goes on. *detail* is what the call's timeline keeps beside *status*, the vendor's own word.
    """

    call_id: str
    vendor: str
    status: str
    key: str
    ends: EndReason | None
    detail: Mapping[str, Any]


class WrongCallback(Exception):
    """A callback is not what the vendor documents; the text says what is wrong, and repeats none of it."""


def describe_media(payload: bytes) -> str:
    """Return what is kept in place of audio, which is personal data: its length in bytes, and its SHA-256."""
    return f'{{"length":{len(payload)},"sha256":"{hashlib.sha256(payload).hexdigest()}"}}'


def bound_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *metadata* without what is too long to keep, beginning with the longest."""
    kept = dict(metadata)
    sizes = {name: len(json.dumps({name: value})) for name, value in kept.items()}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if sum(sizes.values()) <= MAX_METADATA:
            break
        del kept[name], sizes[name]
    return kept
