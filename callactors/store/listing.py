"""The list of calls: pages that each walk one index, filter what they meet, and stop at a bound.

A walk's order is fixed when a call begins or a transition happens, so pages skip nothing: every call that is
there at the first page comes exactly once, but in the order of transitions one that moves on meanwhile goes
to the front and may not come again.
"""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple, Self

from asyncpg import Record

from callactors.states import CallState
from callactors.store.connection import Connection
from callactors.store.rows import read_call
from callactors.store.summaries import COLUMNS, EXACT, TAIL, Summary, describe, tell_time

SCAN_BOUND: Final = 10_000
MAX_NUMBER: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_BEHIND_ALL: Final = "{"  # the character behind "z": no call id comes after it

# Of `calls c`. A sequence 0 that never came, the range [0, 0], is no gap.
_MATCHES: Final = """(
    ($1::text[] is null or c.state = any ($1))
    and ($2::text[] is null or c.end_reason = any ($2))
    and ($3::boolean is null or (c.streams @? '$.*.missing[*][1] ? (@ > 0)') = $3)
    and ($4::timestamptz is null or c.started_at >= $4)
    and ($5::timestamptz is null or c.started_at < $5)
    and ($6::text is null or starts_with(c.call_id, $6))
    and c.erased_at is null
) is true"""
# Only for the rows of the page.
_EXACT: Final = f"""
select c.*, {EXACT} from (%s) c cross join {TAIL} order by c.place
"""  # noqa: S608  # put together from constants
# The last row within the bound comes out in any case: the next page begins behind it.
_WALK: Final = (
    _EXACT
    % f"""
    select c.*, {_MATCHES} as is_match from (
        select {COLUMNS}, row_number() over (order by %(order)s) as place from calls c
        where %(range)s order by %(order)s limit {SCAN_BOUND}
    ) c
    where {_MATCHES} or c.place = {SCAN_BOUND} order by %(order)s limit $7
"""  # noqa: S608  # put together from constants
)
_START: Final = {
    "order": "c.started_at desc, c.call_no desc",
    "range": "(c.started_at, c.call_no) < (coalesce($8, 'infinity'::timestamptz), $9::bigint)"
    " and c.started_at >= coalesce($4, '-infinity'::timestamptz)",
}
_BY_START: Final = _WALK % _START
_LIVE_BY_START: Final = _WALK % {**_START, "range": f"c.finished_at is null and {_START['range']}"}
_BY_CALL_ID: Final = _WALK % {
    "order": "c.call_id",
    "range": "c.call_id > $8::text and c.call_id >= $9::text and c.call_id < $10::text",
}
_BY_TRANSITION: Final = (
    _EXACT
    % f"""
    select e.*, c.*, c.call_no is not null as is_match from (
        select e.event_id, e.call_no as of_call, e.version as event_version, e.kind, e.from_state, e.to_state,
            e.at, e.detail::text, row_number() over (order by e.event_id desc) as place
        from call_events e where e.event_id < $8 order by e.event_id desc limit {SCAN_BOUND}
    ) e left join lateral (
        select {COLUMNS} from calls c
        where e.kind = 'transition' and c.call_no = e.of_call and e.event_version = (
            select l.version from call_events l where l.call_no = e.of_call and l.kind = 'transition'
            order by l.version desc limit 1
        ) and {_MATCHES}
        offset 0  -- each by its key
    ) c on true
    where c.call_no is not null or e.place = {SCAN_BOUND} order by e.event_id desc limit $7
"""  # noqa: S608  # put together from constants
)
_NAMED: Final = (
    _EXACT
    % f"""
    select {COLUMNS}, true as is_match, 0 as place from calls c
    where c.call_id = any ($8::text[]) and {_MATCHES} limit $7
"""  # noqa: S608  # put together from constants
)


class Sort(StrEnum):
    """By when a call began or last moved to another state, the newest first, or by its id."""

    START = "start"
    TRANSITION = "transition"
    CALL_ID = "call_id"


class Place(NamedTuple):
    """A row of a walk, behind which the next page begins; clients hold it as an opaque text.

    *number* is a call_no or an event_id.
    """

    sort: Sort
    started_at: datetime = _EPOCH
    number: int = 0
    call_id: str = ""

    @classmethod
    def parse(cls, text: str) -> "Self | None":
        """Return the place in *text*, or None if it is not one."""
        try:
            raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            match raw.decode("ascii").split("/"):
                case [Sort.START, microseconds, call_no]:
                    started_at = _EPOCH + int(microseconds) * _MICROSECOND
                    place = cls(Sort.START, started_at, number=int(call_no))
                case [Sort.TRANSITION, event_id]:
                    place = cls(Sort.TRANSITION, number=int(event_id))
                case [Sort.CALL_ID, call_id] if call_id.isprintable():
                    place = cls(Sort.CALL_ID, call_id=call_id)
                case _:
                    return None
        except (ValueError, OverflowError):
            return None
        return place if 0 <= place.number < 2**63 else None

    @classmethod
    def of(cls, sort: Sort, record: Record) -> Self:
        """Return the place of *record*, a row of the walk by *sort*."""
        match sort:
            case Sort.START:
                return cls(sort, record["started_at"], number=record["call_no"])
            case Sort.TRANSITION:
                return cls(sort, number=record["event_id"])
            case Sort.CALL_ID:
                return cls(sort, call_id=record["call_id"])

    def __str__(self) -> str:
        match self.sort:
            case Sort.START:
                key = f"{(self.started_at - _EPOCH) // _MICROSECOND}/{self.number}"
            case Sort.TRANSITION:
                key = str(self.number)
            case Sort.CALL_ID:
                key = self.call_id
        return base64.urlsafe_b64encode(f"{self.sort}/{key}".encode()).decode().rstrip("=")


class Filters(NamedTuple):
    """Which calls are wanted; None: any. *prefix* is of the call id, *since* and *until* of the start."""

    states: Sequence[str] | None = None
    end_reasons: Sequence[str] | None = None
    has_gaps: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    prefix: str | None = None


class Page(NamedTuple):
    """Calls, and where the next page begins; None if this was the last."""

    calls: list[Summary]
    next: Place | None


async def read_page(
    connection: Connection, filters: Filters, sort: Sort, *, limit: int, after: Place | None = None
) -> Page:
    """Return up to *limit* calls that pass *filters*, behind *after*, a place of the same *sort*.

    It looks at no more than SCAN_BOUND rows, so a page with a next one may have few calls, or none. A live
    call's gaps are filtered as its row was last written, and told as they are.
    """
    match sort:
        case Sort.START:
            is_live = filters.states is not None and all(not CallState(s).is_final for s in filters.states)
            statement = _LIVE_BY_START if is_live else _BY_START
            key: tuple[Any, ...] = _behind_start(filters, after)
        case Sort.TRANSITION:
            statement, key = _BY_TRANSITION, (after.number if after else MAX_NUMBER,)
        case Sort.CALL_ID:
            prefix = filters.prefix or ""
            statement, key = _BY_CALL_ID, (after.call_id if after else "", prefix, _behind_prefix(prefix))
    records = await connection.fetch(statement, *filters, limit, *key)
    is_full = bool(records) and (len(records) == limit or records[-1]["place"] == SCAN_BOUND)
    return Page(_summarize(records, filters), Place.of(sort, records[-1]) if is_full else None)


async def read_named(connection: Connection, filters: Filters, call_ids: Sequence[str]) -> list[Summary]:
    """Return those of the calls *call_ids* that exist and pass *filters*, in any order."""
    records = await connection.fetch(_NAMED, *filters, len(call_ids), call_ids)
    return _summarize(records, filters)


def _behind_start(filters: Filters, after: Place | None) -> tuple[datetime | None, int]:
    """Return what is above all starts that are wanted: the walk begins there."""
    ends = [(filters.until, 0)] if filters.until else []
    if after:
        ends.append((after.started_at, after.number))
    return min(ends, default=(None, 0))


def _behind_prefix(prefix: str) -> str:
    """Return what is above all call ids that begin with *prefix*."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else _BEHIND_ALL


def _summarize(records: Sequence[Record], filters: Filters) -> list[Summary]:
    found = [_tell(record) for record in records if record["is_match"]]
    return [summary for summary in found if filters.has_gaps in (None, summary["has_gaps"])]


def _tell(record: Record) -> Summary:
    columns = dict(record)
    columns["last_packet_at"] = record["last_received_at"]
    summary = describe(read_call(record), columns)
    if "event_id" in columns:
        summary["last_event"] = {
            "kind": record["kind"],
            "state": record["to_state"],
            "from": record["from_state"],
            "at": tell_time(record["at"]),
            "version": record["event_version"],
            **json.loads(record["detail"]),
        }
    return summary
