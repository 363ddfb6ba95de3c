"""Erasing a call: what it was is deleted, that it was stays. One commit says so, batches do the rest."""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from callactors.errors import UnknownCall
from callactors.store.audit import write_audit
from callactors.store.connection import Connection
from callactors.store.rows import read_call, write_event
from callactors.store.summaries import AS_WRITTEN

T = TypeVar("T")
Run: TypeAlias = Callable[[Callable[[Connection], Awaitable[T]]], Awaitable[T]]
"""Returns what the unit of work returns; a Session's `run`, which tries again."""

BATCH: Final = 500  # packets, each with up to 262,144 characters
PAGE: Final = 100

_LOCK: Final = f"""
select {AS_WRITTEN} from calls c where c.call_id = $1 for no key update
"""  # noqa: S608  # put together from constants
_ERASE: Final = """
update calls set state = $2, version = $3, end_reason = $4, epoch = epoch + 1, owner = null,
    attempt_running = false, streaming = false, legs = '{}',
    erased_at = clock_timestamp(), wake_at = clock_timestamp(),
    completed_at = coalesce(completed_at, clock_timestamp()),
    finished_at = coalesce(finished_at, clock_timestamp()),
    streams = '{}', packets = 0, late = 0, duplicates = 0, metadata = '{}', result = null, last_error = null
where call_no = $1 returning erased_at
"""
_DELETE_DELIVERIES: Final = "delete from deliveries where call_no = $1"
_TELL: Final = """
insert into call_events (call_no, version, call_id, kind, from_state, to_state, attempt, detail)
select e.* from jsonb_to_recordset($1) as e (
    call_no bigint, version bigint, call_id text, kind text, from_state text, to_state text,
    attempt integer, detail jsonb
)
"""
_UNSCRUBBED: Final = """
select call_no, call_id from calls where erased_at is not null and wake_at <= statement_timestamp()
order by wake_at, call_no limit $1
"""
# Nobody waits: what another server has taken is left to it.
_DELETE_PACKETS: Final = """
with batch as materialized (
    select p.ctid, p.stream, p.sequence from packets p
    where p.call_no = $1 and (p.stream, p.sequence) > ($2, $3)
    order by p.stream, p.sequence limit $4 for update skip locked
), deleted as (
    delete from packets p where p.ctid = any (array(select b.ctid from batch b))
)
select b.stream, b.sequence from batch b order by b.stream, b.sequence offset $4 - 1
"""
_SCRUB_EVENTS: Final = """
update call_events set detail = '{}' where event_id = any (array(
    select e.event_id from call_events e where e.call_no = $1 and e.detail <> '{}' order by e.version limit $2
))
"""
# The order and the limit keep PostgreSQL to the index.
_FINISH: Final = """
update calls c set wake_at = null where c.call_no = $1 and c.erased_at is not null
    and (select true from packets p where p.call_no = $1 order by p.stream, p.sequence limit 1) is null
    and (
        select true from call_events e where e.call_no = $1 and e.detail <> '{}' order by e.version limit 1
    ) is null
"""
_PUT_OFF: Final = """
update calls set wake_at = clock_timestamp() + interval '10 s'
where call_no = $1 and erased_at is not null and wake_at is not null
"""


class Erased(NamedTuple):
    """Since when a call is erased, and whether nothing is left to be deleted."""

    at: datetime
    is_scrubbed: bool


_PacketKey: TypeAlias = tuple[str, int]
_FIRST: Final[_PacketKey] = ("", -1)


async def erase(connection: Connection, call_id: str, actor: str) -> Erased:
    """Erase a call in one commit, for which *actor* is named in the audit; repeating it changes nothing.

    The row's lock waits for a flush in flight, and the epoch refuses all later ones: what is acknowledged was
    stored before, and nothing is stored after.

    Raises:
        UnknownCall: there is no such call.
    """
    async with connection.transaction():
        record = await connection.fetchrow(_LOCK, call_id)
        if record is None:
            raise UnknownCall(call_id)
        if record["erased_at"] is not None:
            return Erased(record["erased_at"], record["wake_at"] is None)
        call, number = read_call(record), record["call_no"]
        events = call.erase()
        facts = call.facts
        at = await connection.fetchval(_ERASE, number, facts.state, facts.version, facts.end_reason)
        # Before the events: that a live call has ended is told.
        await connection.execute(_DELETE_DELIVERIES, number)
        lines = [write_event(number, call_id, event) for event in events]
        await connection.execute(_TELL, json.dumps(lines))
        await write_audit(connection, actor, "call erased", call_id=call_id)
    return Erased(at, False)


async def read_unscrubbed(connection: Connection) -> list[tuple[int, str]]:
    """Return number and id of up to PAGE erased calls of which something may be left."""
    return [(record["call_no"], record["call_id"]) for record in await connection.fetch(_UNSCRUBBED, PAGE)]


async def scrub(run: Run[Any], call_no: int) -> bool:
    """Delete what is left of an erased call in batches, and return whether all is gone.

    It is not if another server is at it too: whoever is the last finishes.
    """
    is_full = True
    while is_full:
        is_full = await run(partial(_scrub_events, call_no=call_no))
    place: _PacketKey | None = _FIRST
    while place is not None:  # each batch begins behind what the last one left dead
        place = await run(partial(_delete_packets, call_no=call_no, after=place))
    return bool(await run(partial(_finish, call_no=call_no)))


async def put_off(connection: Connection, call_no: int) -> None:
    """Let a call that cannot be scrubbed wait, so that it is in nobody's way."""
    await connection.execute(_PUT_OFF, call_no)


async def _scrub_events(connection: Connection, *, call_no: int) -> bool:
    return await connection.execute(_SCRUB_EVENTS, call_no, BATCH) == f"UPDATE {BATCH}"


async def _delete_packets(connection: Connection, *, call_no: int, after: _PacketKey) -> _PacketKey | None:
    last = await connection.fetchrow(_DELETE_PACKETS, call_no, *after, BATCH)
    return None if last is None else (last["stream"], last["sequence"])


async def _finish(connection: Connection, *, call_no: int) -> bool:
    return await connection.execute(_FINISH, call_no) == "UPDATE 1"
