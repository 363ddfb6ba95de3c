"""The legs of a call: the streams that vendors' connections bring, and when it all ends by itself. Pure."""

from dataclasses import dataclass, replace
from typing import Final, Self

MAX_CALLBACKS: Final = 100
"""Callbacks of a call that are kept; one more counts only if it ends the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """When a call goes on by itself, in seconds.

    The AI step starts *grace* after the call's end; it ends *drop_timeout* after the last connection was
    lost, *idle_timeout* after the last packet, and *max_duration* after its start.
    """

    grace: float = 1.0
    drop_timeout: float = 30.0
    idle_timeout: float = 3_600.0
    max_duration: float = 86_400.0

    def until_look(self, *, idle: float = 0.0, age: float = 0.0) -> float:
        """Return the seconds until a call may be over; it is, for one of the two reasons, if there are none.

        *idle* are those since its last packet, *age* those since its start.
        """
        return max(min(self.idle_timeout - idle, self.max_duration - age), 0.0)


@dataclass(frozen=True, slots=True)
class Legs:
    """What vendors have told of a call.

    Streams are *live* from their start on, and *dropped* while their connection is lost without a stop.
    *callbacks* are the keys of those that are on the timeline, *controls* counts packets without content.
    """

    live: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    callbacks: tuple[str, ...] = ()
    controls: int = 0

    def __contains__(self, stream: str) -> bool:
        return stream in self.live or stream in self.dropped

    @property
    def is_lost(self) -> bool:
        """Whether connections were lost and none is open."""
        return bool(self.dropped) and not self.live

    def begin(self, stream: str) -> Self:
        return replace(self, live=self.live | {stream}, dropped=self.dropped - {stream})

    def end(self, stream: str) -> Self:
        return replace(self, live=self.live - {stream}, dropped=self.dropped - {stream})

    def drop(self, stream: str) -> Self:
        return replace(self, live=self.live - {stream}, dropped=self.dropped | {stream})

    def hear(self, callback: str) -> Self:
        return replace(self, callbacks=(*self.callbacks, callback))

    def count_control(self) -> Self:
        return replace(self, controls=self.controls + 1)


NO_LEGS: Final = Legs()
"""Those of a call that no vendor streams, shared by all of them."""
