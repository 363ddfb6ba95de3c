"""One flush: the changes of many calls as the arguments of flush_3, and what it answers."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from callactors.facts import Change, Row
from callactors.packets import Packet, PacketKind
from callactors.store.connection import Connection
from callactors.store.rows import write_event, write_row

_FLUSH: Final = "select * from flush_3($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"


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


_Run = tuple[int, int, Packet, int]
"""The packets of a change, whose sequences follow each other: call, position, first packet, number."""


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
                runs.append((call.call_no, position, its_packets[0], len(its_packets)))
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
        [call_no for call_no, _, _, _ in runs],
        [first.stream for _, _, first, _ in runs],
        [first.sequence for _, _, first, _ in runs],
        [length for _, _, _, length in runs],
        [packet.timestamp for packet in packets],
        [packet.data for packet in packets],
        _kinds(packets),
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
    guilty = _find(runs, found["conflicts"] or ())
    conflicts = {*guilty, *(repeats[i - 1][:2] for i in found["repeat_conflicts"] or ())}
    stored = len(packets)
    if fenced or guilty:
        stored = sum([length for call_no, _, _, length in runs if call_no not in fenced])
        stored -= sum([call_no not in fenced for call_no, _ in guilty])
    return Flushed(fenced, frozenset(conflicts), bool(events), stored)


def _kinds(packets: Sequence[Packet]) -> list[PacketKind | None] | None:
    """Return the kinds of *packets*, in which media is None; None for media only."""
    media = PacketKind.MEDIA
    kinds = [None if packet.kind is media else packet.kind for packet in packets]
    return kinds if any(kinds) else None


def _find(runs: Sequence[_Run], packets: Sequence[int]) -> list[tuple[int, int]]:
    """Return the call and the position of the change of each of *packets*, which are counted from 1."""
    if not packets:
        return []
    ends = [*accumulate(length for _, _, _, length in runs)]
    return [runs[bisect_left(ends, packet)][:2] for packet in packets]
