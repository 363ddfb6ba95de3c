"""One flush: the changes of many calls as the arguments of flush_2, and what it answers."""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from callactors.call import Change, Row
from callactors.packets import Packet
from callactors.store.connection import Connection
from callactors.store.rows import write_event, write_row

_FLUSH: Final = "select * from flush_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"


class CallChanges(NamedTuple):
    """Changes of one call under one claim, in order."""

    call_no: int
    call_id: str
    epoch: int
    changes: Sequence[Change]


class Flushed(NamedTuple):
    """Calls that another owner has, changes (call, position) whose packet is stored with other data, and
    how many new packets were stored.
    """

    fenced: frozenset[int]
    conflicts: frozenset[tuple[int, int]]
    wrote_events: bool
    packets: int


_Origin = tuple[int, int, Packet]
"""A packet, and the call and the position of the change that brought it."""


async def flush(connection: Connection, owner: str, calls: Sequence[CallChanges]) -> Flushed:
    """Commit *calls* in one round trip; running it again with the same content changes nothing."""
    packets: list[_Origin] = []
    repeats: list[_Origin] = []
    rows: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for call in calls:
        row: Row | None = None
        for position, (packet, is_repeat, its_row, its_events) in enumerate(call.changes):
            if packet is not None:
                (repeats if is_repeat else packets).append((call.call_no, position, packet))
            if its_row is not None:
                row = its_row.over(row)
            if its_events:
                events += [write_event(call.call_no, call.call_id, event) for event in its_events]
        if row is not None:
            rows.append(write_row(call.call_no, row))
    found = await connection.fetchrow(
        _FLUSH,
        owner,
        [call.call_no for call in calls],
        [call.epoch for call in calls],
        [call_no for call_no, _, _ in packets],
        [packet.stream for _, _, packet in packets],
        [packet.sequence for _, _, packet in packets],
        [packet.timestamp for _, _, packet in packets],
        [packet.data for _, _, packet in packets],
        [call_no for call_no, _, _ in repeats],
        [packet.stream for _, _, packet in repeats],
        [packet.sequence for _, _, packet in repeats],
        [packet.data for _, _, packet in repeats],
        json.dumps(rows) if rows else None,
        json.dumps(events) if events else None,
    )
    if found is None:
        raise RuntimeError("flush_2 answers with one row")
    fenced = frozenset(found["fenced"] or ())
    guilty = [packets[i - 1] for i in found["conflicts"] or ()]
    guilty += [repeats[i - 1] for i in found["repeat_conflicts"] or ()]
    conflicts = frozenset((call_no, position) for call_no, position, _ in guilty)
    stored = len(packets)
    if fenced or conflicts:
        stored = sum(no not in fenced and (no, position) not in conflicts for no, position, _ in packets)
    return Flushed(fenced, conflicts, bool(events), stored)
