"""What was sent and acknowledged, and what the database holds: the two sides that the checker compares."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import asyncpg

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Key(NamedTuple):
    """What a packet is stored under, once."""

    call_id: str
    stream: str
    sequence: int


class Content(NamedTuple):
    data: str
    timestamp: float


@dataclass(slots=True)
class History:
    """Written before a request goes out and after its answer has come; no answer means unknown."""

    sent: dict[Key, set[Content]] = field(default_factory=dict)
    acked: dict[Key, str] = field(default_factory=dict)
    """The data that a 202 said is stored."""
    completes_sent: set[str] = field(default_factory=set)
    completed: set[str] = field(default_factory=set)

    def send(self, key: Key, content: Content) -> None:
        self.sent.setdefault(key, set()).add(content)

    def ack(self, key: Key, content: Content) -> None:
        self.acked.setdefault(key, content.data)


class StoredPacket(NamedTuple):
    key: Key
    content: Content


class StoredCall(NamedTuple):
    call_id: str
    state: str
    version: int
    generation: int
    attempt: int
    packets: int
    result: Any = None


class StoredEvent(NamedTuple):
    call_id: str
    version: int
    kind: str
    from_state: str | None
    to_state: str
    attempt: int
    detail: Mapping[str, Any]


class Stored(NamedTuple):
    """Everything of one database; events by call and version."""

    packets: Sequence[StoredPacket]
    calls: Sequence[StoredCall]
    events: Sequence[StoredEvent]

    def of(self, call_ids: Set[str]) -> "Stored":
        """Return the part that belongs to these calls."""
        return Stored(
            [packet for packet in self.packets if packet.key.call_id in call_ids],
            [call for call in self.calls if call.call_id in call_ids],
            [event for event in self.events if event.call_id in call_ids],
        )


async def read_stored(sql: Sql) -> Stored:
    """Read it all in one snapshot, by plain statements that share no code with the server."""
    async with sql.transaction(isolation="repeatable_read", readonly=True):
        packets = await sql.fetch(
            "select call_id, stream, sequence, data, timestamp from packets left join calls using (call_no)"
        )
        calls = await sql.fetch(
            "select call_id, state, version, generation, attempt, packets, result from calls"
        )
        events = await sql.fetch(
            "select call_id, version, kind, from_state, to_state, attempt, detail from call_events"
            " order by call_id, version"
        )
    return Stored(
        [StoredPacket(Key(r[0] or "?", r[1], r[2]), Content(r[3], r[4])) for r in packets],
        [StoredCall(*r)._replace(result=_json(r["result"])) for r in calls],
        [StoredEvent(*r)._replace(detail=_json(r["detail"])) for r in events],
    )


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
