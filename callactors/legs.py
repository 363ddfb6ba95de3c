"""The legs of a call: the streams that vendors' connections bring, and when it all ends by itself. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    *servers* are the boots of nodes that have the connections of live streams, where that was told.
    """

    live: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    callbacks: tuple[str, ...] = ()
    controls: int = 0
    servers: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, stream: str) -> bool:
        return stream in self.live or stream in self.dropped

    @property
    def is_lost(self) -> bool:
        """Whether connections were lost and none is open."""
        return bool(self.dropped) and not self.live

    def is_elsewhere(self, stream: str, server: str) -> bool:
        """Whether *stream* is live over a connection of another server than *server*; "" is any."""
        return server not in ("", self.servers.get(stream, server))

    def begin(self, stream: str, server: str) -> Self:
        servers = self._others(stream) | ({stream: server} if server else {})
        return replace(self, live=self.live | {stream}, dropped=self.dropped - {stream}, servers=servers)

    def end(self, stream: str) -> Self:
        live, dropped = self.live - {stream}, self.dropped - {stream}
        return replace(self, live=live, dropped=dropped, servers=self._others(stream))

    def drop(self, stream: str) -> Self:
        live, dropped = self.live - {stream}, self.dropped | {stream}
        return replace(self, live=live, dropped=dropped, servers=self._others(stream))

    def hear(self, callback: str) -> Self:
        return replace(self, callbacks=(*self.callbacks, callback))

    def count_control(self) -> Self:
        return replace(self, controls=self.controls + 1)

    def _others(self, stream: str) -> dict[str, str]:
        return {one: server for one, server in self.servers.items() if one != stream}


NO_LEGS: Final = Legs()
"""Those of a call that no vendor streams, shared by all of them."""
