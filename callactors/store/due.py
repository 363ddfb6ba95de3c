"""Which calls are due for their next own step and have nobody to take it."""

from typing import Final, NamedTuple

from callactors.store.connection import Connection

PAGE: Final = 1_000

# A living owner's calls are left to it. Mine are told: whether an actor has them is the caller's to know.
_DUE: Final = """
select call_no, call_id, extract(epoch from wake_at)::float8 as wake_at, state = 'IN_PROGRESS' as in_progress,
    wake_at < statement_timestamp() - interval '1 second' as overdue
from calls c
where wake_at <= statement_timestamp() and (wake_at, call_no) > (to_timestamp($1), $2)
    and erased_at is null and (
    owner is null or owner = $3 or not exists (select from nodes n where n.node = c.owner)
    or ($4 and not is_alive_1(owner, $5))
)
order by c.wake_at, c.call_no limit $6
"""
# Whether a node is dead is asked once of each, and not of each call.
_DEAD: Final = """
dead as (
    select node from (select distinct node from found) f
    where not exists (select from nodes n where n.node = f.node) or ($2 and not is_alive_1(f.node, $3))
)
"""
# Each has an index of its own.
_ORPHANS: Final = f"""
with found as (
    select call_id, owner as node from calls where attempt_running and owner <> $1
    union select call_id, owner from calls where streaming and owner <> $1
), {_DEAD} select call_id from found join dead using (node)
"""  # noqa: S608  # put together from constants
# What others own they look after themselves.
_LOST: Final = f"""
with found as (
    select call_id, stream, node
    from calls c cross join lateral jsonb_each_text(c.legs -> 'servers') s (stream, node)
    where c.streaming and (c.owner = $1 or c.owner is null) and s.node <> $1
), {_DEAD} select call_id, stream, node as server from found join dead using (node)
"""  # noqa: S608  # put together from constants


class Due(NamedTuple):
    """A call, whether it is in progress: then nobody but the sweeper wakes it, and whether it is long due."""

    call_id: str
    is_in_progress: bool = False
    is_overdue: bool = False


class LostStream(NamedTuple):
    """A live stream whose connection was to *server*, which is dead."""

    call_id: str
    stream: str
    server: str


class DuePage(NamedTuple):
    """Calls, and where the next page begins; None if this was the last."""

    calls: list[Due]
    next: tuple[float, int] | None


FIRST: Final = (0.0, 0)


async def read_due(
    connection: Connection, owner: str, after: tuple[float, int], *, may_take_stale: bool, lease: float
) -> DuePage:
    """Return a page of calls whose wake_at is over and whose owner is nobody, dead, or *owner*."""
    records = await connection.fetch(_DUE, *after, owner, may_take_stale, lease, PAGE)
    last = records[-1] if len(records) == PAGE else None
    found = [Due(r["call_id"], r["in_progress"], r["overdue"]) for r in records]
    return DuePage(found, (last["wake_at"], last["call_no"]) if last else None)


async def read_orphans(
    connection: Connection, owner: str, *, may_take_stale: bool, lease: float
) -> list[str]:
    """Return the calls whose attempt ran, or whose streams came, in a process that is dead."""
    records = await connection.fetch(_ORPHANS, owner, may_take_stale, lease)
    return [r["call_id"] for r in records]


async def read_lost_streams(
    connection: Connection, owner: str, *, may_take_stale: bool, lease: float
) -> list[LostStream]:
    """Return the live streams that were lost with a server, of calls that *owner* has, or nobody."""
    records = await connection.fetch(_LOST, owner, may_take_stale, lease)
    return [LostStream(r["call_id"], r["stream"], r["server"]) for r in records]
