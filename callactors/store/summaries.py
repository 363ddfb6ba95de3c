"""The call summary: the one short form in which lists and snapshots tell of a call."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from asyncpg import Record

from callactors.call import Call
from callactors.sequence import Range
from callactors.states import CallState
from callactors.store.connection import Connection
from callactors.store.rows import read_call

Summary: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[datetime, int]
"""The start or the end of a call, and its number."""

_BEGINNING: Final = (None, 0)

COLUMNS: Final = """
c.call_no, c.call_id, c.state, c.version, c.generation, c.attempt, c.attempt_running, c.crashes, c.wake_at,
c.end_reason, c.streams, c.packets, c.late, c.duplicates, c.started_at, c.last_packet_at, c.completed_at,
c.finished_at, c.erased_at, c.legs
"""
"""Of `calls c`: what a summary is made from, beside a wake_in and a tail."""
EXACT: Final = """
extract(epoch from c.wake_at - clock_timestamp())::float8 as wake_in,
t.streams as tail_streams, t.sequences as tail_sequences,
coalesce(c.last_packet_at, (
    select p.received_at from packets p where p.call_no = c.call_no and p.stream = ''
    order by p.sequence desc limit 1
)) as last_received_at
"""
"""Of `calls c` and its TAIL: what makes a summary exact. A call not yet checkpointed has one stream."""
TAIL: Final = "lateral tail_1(c.call_no, case when c.erased_at is null then c.streams end) t"
"""To be joined with `calls c`. Of what is left of an erased call nothing is read."""
AS_WRITTEN: Final = (
    f"{COLUMNS}, null::float8 as wake_in, null::text[] as tail_streams, null::bigint[] as tail_sequences"
)
"""Of `calls c`: what a summary is made from that takes the row as it was last written."""

# The order and the limit keep PostgreSQL to the partial indexes.
_LIVE: Final = f"""
select {AS_WRITTEN} from calls c
where c.finished_at is null and (c.started_at, c.call_no) > (coalesce($1::timestamptz, '-infinity'), $2)
order by c.started_at, c.call_no limit $3
"""  # noqa: S608  # put together from constants
_ENDED: Final = f"""
select {AS_WRITTEN} from calls c
where c.finished_at is not null and (c.finished_at, c.call_no) < (coalesce($1::timestamptz, 'infinity'), $2)
    and c.erased_at is null
order by c.finished_at desc, c.call_no desc limit $3
"""  # noqa: S608  # put together from constants


async def read_live(connection: Connection, after: Place | None, limit: int) -> list[tuple[Place, Summary]]:
    """Return up to *limit* calls that have not ended, the longest running first, with their places.

    They are those behind *after* (None: from the first), as their rows were last written: counts and gaps may
    be a minute old. A place stays one when its call is gone.
    """
    records = await connection.fetch(_LIVE, *(after or _BEGINNING), limit)
    return [((record["started_at"], record["call_no"]), summarize(record)) for record in records]


async def read_ended(connection: Connection, before: Place | None, limit: int) -> list[tuple[Place, Summary]]:
    """Return up to *limit* calls that have ended, the newest end first, with their places.

    They are those behind *before* (None: from the last), without those that were erased.
    """
    records = await connection.fetch(_ENDED, *(before or _BEGINNING), limit)
    return [((record["finished_at"], record["call_no"]), summarize(record)) for record in records]


def summarize(record: Record) -> Summary:
    """Return the summary of the call in *record*, which has COLUMNS, a wake_in and a tail."""
    return describe(read_call(record), record)


def describe(call: Call, columns: Mapping[str, Any] | Record) -> Summary:
    """Return the summary of *call*; *columns* of its row are wake_at and the times."""
    facts = call.facts
    missing = sum(count_missing(stream.gaps) for stream in call.streams.values())
    is_waiting = facts.state is CallState.PROCESSING_AI and not facts.is_attempting
    return {
        "call_id": call.call_id,
        "state": facts.state,
        "version": facts.version,
        "generation": facts.generation,
        "attempt": facts.attempt,
        "attempt_running": facts.is_attempting,
        "next_attempt_at": tell_time(columns["wake_at"]) if is_waiting else None,
        "end_reason": facts.end_reason,
        "crashes": facts.crashes,
        "packets": call.packets,
        "late": call.late,
        "duplicates": call.duplicates,
        "missing_count": missing,
        "has_gaps": missing > 0,
        "started_at": tell_time(columns["started_at"]),
        "last_packet_at": tell_time(columns["last_packet_at"]),
        "completed_at": tell_time(columns["completed_at"]),
        "finished_at": tell_time(columns["finished_at"]),
    }


def count_missing(gaps: Sequence[Range]) -> int:
    """Return how many sequences *gaps* have together."""
    return sum(last - first + 1 for first, last in gaps)


def tell_time(at: datetime | None) -> str | None:
    """Return *at*, which is in UTC, as an ISO 8601 text with milliseconds."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
