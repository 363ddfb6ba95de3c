"""What is stored of one call: its events and its packets, in pages."""

import json
from typing import Any, Final, NamedTuple

from callactors.errors import CallErased, UnknownCall
from callactors.packets import PacketKind
from callactors.store.connection import Connection
from callactors.store.events import Cursor, Position
from callactors.store.summaries import tell_time

PAGE_SIZE: Final = 1024 * 1024
"""About how many bytes of data a page of packets has at most, beside its first packet."""

_FIND: Final = "select call_no, erased_at is not null as is_erased from calls where call_id = $1"
_EVENTS: Final = """
select xid::text::int8 as xid, event_id, version, kind, from_state, to_state, attempt, at, detail::text
from call_events where call_no = $1 and version > $2 order by version limit $3
"""
_PACKETS: Final = """
select sequence, kind, data, timestamp, received_at, found from (
    select sequence, kind, data, timestamp, received_at, count(*) over () as found,
        sum(octet_length(data)) over (order by sequence rows unbounded preceding) - octet_length(data) as size
    from (
        select * from packets where call_no = $1 and stream = $2 and sequence > $3 order by sequence limit $4
    ) page
) p where size < $5 order by sequence
"""


class Part(NamedTuple):
    """Lines of a call's history, and after which the next part begins; None if this was the last."""

    lines: list[dict[str, Any]]
    next: int | None


async def read_events(connection: Connection, log_id: str, call_id: str, *, after: int, limit: int) -> Part:
    """Return up to *limit* events of the call behind version *after*, with cursors of the log *log_id*.

    Raises:
        UnknownCall, CallErased: there is no such call any more, or never was.
    """
    number = await _find(connection, call_id)
    records = await connection.fetch(_EVENTS, number, after, limit + 1)
    shown = records[:limit]
    lines = [
        {
            "version": record["version"],
            "kind": record["kind"],
            "state": record["to_state"],
            "from": record["from_state"],
            "attempt": record["attempt"],
            "at": tell_time(record["at"]),
            "cursor": str(Cursor(log_id, Position(record["xid"], record["event_id"]))),
            **json.loads(record["detail"]),
        }
        for record in shown
    ]
    return Part(lines, shown[-1]["version"] if len(records) > limit else None)


async def read_packets(connection: Connection, call_id: str, stream: str, *, after: int, limit: int) -> Part:
    """Return up to *limit* packets of the call's *stream* behind sequence *after*, fewer if they are large.

    Raises:
        UnknownCall, CallErased: there is no such call any more, or never was.
    """
    number = await _find(connection, call_id)
    records = await connection.fetch(_PACKETS, number, stream, after, limit + 1, PAGE_SIZE)
    shown = records[:limit]
    lines = [
        {
            "sequence": record["sequence"],
            "kind": PacketKind(record["kind"] or PacketKind.MEDIA),
            "data": record["data"],
            "timestamp": record["timestamp"],
            "received_at": tell_time(record["received_at"]),
        }
        for record in shown
    ]
    return Part(lines, shown[-1]["sequence"] if shown and shown[0]["found"] > len(shown) else None)


async def _find(connection: Connection, call_id: str) -> int:
    record = await connection.fetchrow(_FIND, call_id)
    if record is None:
        raise UnknownCall(call_id)
    if record["is_erased"]:
        raise CallErased(call_id)
    number: int = record["call_no"]
    return number
