"""One flush: the changes of many calls as the arguments of flush_2, and what it answers."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
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
    """Calls that another owner has, changes (call, position) of which a packet is stored with other data, and
    how many new packets were stored.
    """

    fenced: frozenset[int]
    conflicts: frozenset[tuple[int, int]]
    wrote_events: bool
    packets: int


_Origin = tuple[int, int, int]
"""The call and the position of a change, and how many packets of a batch there are up to and with its own."""


async def flush(connection: Connection, owner: str, calls: Sequence[CallChanges]) -> Flushed:
    """Commit *calls* in one round trip; running it again with the same content changes nothing."""
    numbers: list[int] = []
    packets: list[Packet] = []
    origins: list[_Origin] = []
    repeats: list[tuple[int, int, Packet]] = []
    rows: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for call in calls:
        row: Row | None = None
        before = len(packets)
        for position, (its_packets, is_repeat, its_row, its_events) in enumerate(call.changes):
            if is_repeat:
                repeats += [(call.call_no, position, packet) for packet in its_packets]
            elif its_packets:
                packets += its_packets
                origins.append((call.call_no, position, len(packets)))
            if its_row is not None:
                row = its_row.over(row)
            if its_events:
                events += [write_event(call.call_no, call.call_id, event) for event in its_events]
        numbers += [call.call_no] * (len(packets) - before)
        if row is not None:
            rows.append(write_row(call.call_no, row))
    found = await connection.fetchrow(
        _FLUSH,
        owner,
        [call.call_no for call in calls],
        [call.epoch for call in calls],
        numbers,
        [packet.stream for packet in packets],
        [packet.sequence for packet in packets],
        [packet.timestamp for packet in packets],
        [packet.data for packet in packets],
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
    left_out: list[int] = found["conflicts"] or []
    guilty = {origins[bisect_left(origins, i, key=itemgetter(2))][:2] for i in left_out}
    guilty |= {repeats[i - 1][:2] for i in found["repeat_conflicts"] or ()}
    if fenced:
        left_out = [*left_out, *(i for i, call_no in enumerate(numbers, 1) if call_no in fenced)]
    return Flushed(fenced, frozenset(guilty), bool(events), len(packets) - len(set(left_out)))
