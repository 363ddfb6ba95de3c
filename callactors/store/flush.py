"""One flush: the changes of many calls as the arguments of flush_3, and what it answers."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from callactors.call import Change, Row
from callactors.packets import Packet
from callactors.store.connection import Connection
from callactors.store.rows import write_event, write_row

_FLUSH: Final = "select * from flush_3($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"


_END: Final = attrgetter("end")


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


class _Run(NamedTuple):
    """The packets of a change, whose sequences follow each other; *end* counts the batch's up to the last."""

    call_no: int
    position: int
    stream: str
    first: int
    length: int
    end: int


async def flush(connection: Connection, owner: str, calls: Sequence[CallChanges]) -> Flushed:
    """Commit *calls* in one round trip; running it again with the same content changes nothing."""
    packets: list[Packet] = []
    runs: list[_Run] = []
    repeats: list[tuple[int, int, Packet]] = []
    rows: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for call in calls:
        row: Row | None = None
        for position, (its_packets, is_repeat, its_row, its_events) in enumerate(call.changes):
            if is_repeat:
                repeats += [(call.call_no, position, packet) for packet in its_packets]
            elif its_packets:
                packets += its_packets
                first, length = its_packets[0], len(its_packets)
                runs.append(_Run(call.call_no, position, first.stream, first.sequence, length, len(packets)))
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
        [run.call_no for run in runs],
        [run.stream for run in runs],
        [run.first for run in runs],
        [run.length for run in runs],
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
        raise RuntimeError("flush_3 answers with one row")
    fenced = frozenset(found["fenced"] or ())
    guilty = [runs[bisect_left(runs, i, key=_END)] for i in found["conflicts"] or ()]
    conflicts = {(run.call_no, run.position) for run in guilty}
    conflicts |= {repeats[i - 1][:2] for i in found["repeat_conflicts"] or ()}
    stored = len(packets)
    if fenced or guilty:
        stored = sum([run.length for run in runs if run.call_no not in fenced])
        stored -= sum([run.call_no not in fenced for run in guilty])
    return Flushed(fenced, frozenset(conflicts), bool(events), stored)
