"""The event log: call_events in an order that skips nothing, and the cursors into it."""

import base64
import binascii
import logging
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from callactors.store.connection import Connection, connect

log = logging.getLogger(__name__)

PAGE: Final = 1_000

_IDENTITY: Final = "select log_id::text, system_identifier, timeline, place from event_log"
# What a snapshot shows was written below its xmax. Our own xid would not do: others commit above it.
_SERVER: Final = """
select (select system_identifier from pg_control_system()) as system_identifier,
    (select timeline_id from pg_control_checkpoint()) as timeline,
    (select oid from pg_database where datname = current_database()) || '/'
        || 'call_events'::regclass::oid as place,
    exists (select from call_events where xid >= pg_snapshot_xmax(pg_current_snapshot())) as is_restored
"""
_WHERE: Final = ("system_identifier", "timeline", "place")
_NEW_IDENTITY: Final = """
insert into event_log (log_id, system_identifier, timeline, place) values (gen_random_uuid(), $1, $2, $3)
returning log_id::text
"""
# The result's xid is a number, which no index orders: order by the table's.
# Below the horizon every transaction has ended, so no event can appear behind a position once passed.
_HORIZON: Final = "xid < pg_snapshot_xmin(pg_current_snapshot())"
_PAGE: Final = f"""
select xid::text::int8 as xid, event_id, call_id, version, kind, from_state, to_state, attempt, at,
    detail::text
from call_events where (xid, event_id) > ($1::text::xid8, $2) and {_HORIZON}
order by call_events.xid, event_id limit $3
"""  # noqa: S608  # put together from constants
_NEWEST: Final = f"""
select xid::text::int8 as xid, event_id, call_id, version, kind, from_state, to_state, attempt, at,
    detail::text
from call_events where {_HORIZON} order by call_events.xid desc, event_id desc limit $1
"""  # noqa: S608  # put together from constants
_IS_KNOWN: Final = "select true from call_events where xid = $1::text::xid8 and event_id = $2"
_PURGED: Final = "select purged_xid::text::int8 as xid, purged_event_id as event_id from event_log"
_IS_FAR: Final = """
select true from call_events where (xid, event_id) > ($1::text::xid8, $2) order by xid, event_id
offset $3 limit 1
"""
# The oldest transaction with an xid is the horizon, in any database; one that is prepared has no session.
_HOLDER: Final = """
select 'session' as kind, pid::text as id, datname as database, usename as user, application_name,
    extract(epoch from clock_timestamp() - xact_start)::float8 as seconds, age(backend_xid) as age
from pg_stat_activity where backend_xid is not null
union all
select 'prepared', gid, database, owner, null,
    extract(epoch from clock_timestamp() - prepared)::float8, age(transaction)
from pg_prepared_xacts
order by age desc limit 1
"""
# The order and the limit keep PostgreSQL to the index, also in a plan for all positions.
_IS_BEHIND: Final = """
select true from call_events where (xid, event_id) > ($1::text::xid8, $2) order by xid, event_id limit 1
"""


class Position(NamedTuple):
    """A place in the log; the log is read in the order of positions."""

    xid: int
    event_id: int


START: Final = Position(0, 0)


class Cursor(NamedTuple):
    """A position and the log it belongs to, which clients hold as an opaque text."""

    log_id: str
    position: Position

    @classmethod
    def parse(cls, text: str) -> "Self | None":
        """Return the cursor in *text*, or None if it is not one."""
        try:
            raw = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
            log_id, xid, event_id = raw.decode().split("/")
            position = Position(int(xid), int(event_id))
        except (ValueError, binascii.Error):
            return None
        return cls(log_id, position) if all(0 <= number < 2**63 for number in position) else None

    def __str__(self) -> str:
        raw = f"{self.log_id}/{self.position.xid}/{self.position.event_id}"
        return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


class LoggedEvent(NamedTuple):
    """One event as committed."""

    position: Position
    call_id: str
    version: int
    kind: str
    from_state: str | None
    to_state: str
    attempt: int
    at: datetime
    detail: str
    """A JSON object."""


async def identify(dsn: str) -> str:
    """Return the identity of the database's log, a new one if the database was restored or is a copy.

    In a restored database the stored xids may be in the future of its server: they become 0, which is older
    than all, and keep their order by event_id.
    """
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("set local statement_timeout = 0; set local lock_timeout = 0")
            await connection.execute("lock table event_log", timeout=3600)
            known, (server,) = await connection.fetchrow(_IDENTITY), await connection.fetch(_SERVER)
            here = [server[name] for name in _WHERE]
            if known and not server["is_restored"] and [known[name] for name in _WHERE] == here:
                return str(known["log_id"])
            if known:
                log.warning("the database was restored or copied: supervisors' cursors start anew")
                await connection.execute("update call_events set xid = '0' where xid <> '0'", timeout=3600)
            await connection.execute("delete from event_log")
            return str(await connection.fetchval(_NEW_IDENTITY, *here))
    finally:
        await connection.close()


async def read_newest(connection: Connection, limit: int) -> list[LoggedEvent]:
    """Return the newest events below the horizon, up to *limit*, in order."""
    records = await connection.fetch(_NEWEST, limit)
    return [_read(record) for record in reversed(records)]


async def read_page(connection: Connection, after: Position) -> list[LoggedEvent]:
    """Return up to PAGE events behind *after*, in order."""
    records = await connection.fetch(_PAGE, str(after.xid), after.event_id, PAGE)
    return [_read(record) for record in records]


async def is_behind(connection: Connection, after: Position) -> bool:
    """Whether events stand behind *after*, be they above the horizon."""
    return bool(await connection.fetchval(_IS_BEHIND, str(after.xid), after.event_id))


async def is_known(connection: Connection, position: Position) -> bool:
    """Whether an event stands at *position*, or it is the beginning."""
    at = (str(position.xid), position.event_id)
    return position == START or bool(await connection.fetchval(_IS_KNOWN, *at))


async def read_purged(connection: Connection) -> Position:
    """Return the position of the last event that was deleted; it only grows."""
    record = await connection.fetchrow(_PURGED)
    return START if record is None else Position(*record)


async def is_far(connection: Connection, after: Position, events: int) -> bool:
    """Whether more than so many *events* stand behind *after*."""
    return bool(await connection.fetchval(_IS_FAR, str(after.xid), after.event_id, events))


async def find_holder(connection: Connection) -> dict[str, Any] | None:
    """Return who holds back the events: the oldest open write transaction of the PostgreSQL server."""
    record = await connection.fetchrow(_HOLDER)
    return None if record is None else {name: value for name, value in record.items() if name != "age"}


def _read(record: Any) -> LoggedEvent:
    xid, event_id, *told = record
    return LoggedEvent(Position(xid, event_id), *told)
