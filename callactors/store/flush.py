"""One flush: the changes of many calls as the arguments of flush_1, and what it answers."""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from asyncpg import Record

from callactors.call import Change, Row
from callactors.packets import Packet
from callactors.store.connection import Connection
from callactors.store.rows import write_event, write_row

_FLUSH: Final = "select * from flush_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"


class CallChanges(NamedTuple):
    """Changes of one call under one claim, in order."""

    call_no: int
    call_id: str
    epoch: int
    changes: Sequence[Change]


class Flushed(NamedTuple):
    """Calls that another owner has, and changes (call, position) whose packet is stored with other data."""

    fenced: frozenset[int]
    conflicts: frozenset[tuple[int, int]]


_CLEAN: Final = Flushed(frozenset(), frozenset())


async def flush(connection: Connection, owner: str, calls: Sequence[CallChanges]) -> Flushed:
    """Commit *calls* in one round trip; running it again with the same content changes nothing."""
    packets, repeats = _Packets(), _Packets()
    rows: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for call in calls:
        row: Row | None = None
        for position, change in enumerate(call.changes):
            if change.packet is not None:
                (repeats if change.is_repeat else packets).add(call.call_no, position, change.packet)
            if change.row is not None:
                row = change.row.over(row)
            events.extend(write_event(call.call_no, call.call_id, event) for event in change.events)
        if row is not None:
            rows.append(write_row(call.call_no, row))
    found = await connection.fetchrow(
        _FLUSH,
        owner,
        [call.call_no for call in calls],
        [call.epoch for call in calls],
        packets.nos,
        packets.streams,
        packets.sequences,
        packets.timestamps,
        packets.datas,
        repeats.nos,
        repeats.streams,
        repeats.sequences,
        repeats.datas,
        json.dumps(rows) if rows else None,
        json.dumps(events) if events else None,
    )
    return _read(found, packets, repeats) if found else _CLEAN


class _Packets:
    """Packets as columns, and where each came from."""

    def __init__(self) -> None:
        self.nos: list[int] = []
        self.streams: list[str] = []
        self.sequences: list[int] = []
        self.timestamps: list[float] = []
        self.datas: list[str] = []
        self.origins: list[tuple[int, int]] = []

    def add(self, call_no: int, position: int, packet: Packet) -> None:
        self.nos.append(call_no)
        self.streams.append(packet.stream)
        self.sequences.append(packet.sequence)
        self.timestamps.append(packet.timestamp)
        self.datas.append(packet.data)
        self.origins.append((call_no, position))


def _read(found: Record, packets: _Packets, repeats: _Packets) -> Flushed:
    fenced, conflicts, repeated = found["fenced"], found["conflicts"], found["repeat_conflicts"]
    if not (fenced or conflicts or repeated):
        return _CLEAN
    origins = [packets.origins[i - 1] for i in conflicts or ()] + [
        repeats.origins[i - 1] for i in repeated or ()
    ]
    return Flushed(frozenset(fenced or ()), frozenset(origins))
