"""What the database says of itself, for whoever looks whether all is well with it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from callactors.store.connection import Connection

_SERVER: Final = """
select current_setting('server_version_num')::int / 10000 as major,
    current_setting('server_version') as version,
    current_database() as database, current_user as user_name,
    current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
    current_setting('synchronous_commit') as synchronous_commit,
    current_setting('synchronous_standby_names') as standbys,
    current_setting('lock_timeout') as lock_timeout,
    pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_all
"""
_CLOCK: Final = "select extract(epoch from clock_timestamp())::float8"
# A limit of -1 is none.
_ROOM: Final = """
select least(
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)
        - (select sum(numbackends) from pg_stat_database),
    (select datconnlimit - numbackends from pg_database join pg_stat_database using (datname)
        where datname = current_database() and datconnlimit >= 0),
    (select rolconnlimit - (select count(*) from pg_stat_activity
            where usename = current_user and backend_type = 'client backend')
        from pg_roles where rolname = current_user and rolconnlimit >= 0)
)::int
"""
_OLD_SNAPSHOT: Final = """
select pid, application_name, extract(epoch from clock_timestamp() - xact_start)::float8 as seconds
from pg_stat_activity
where backend_type = 'client backend' and backend_xmin is not null
    and xact_start < clock_timestamp() - $1 * interval '1 second'
order by xact_start limit 1
"""
_NODES: Final = """
select node, extract(epoch from clock_timestamp() - heartbeat_at)::float8 as silent from nodes order by node
"""
_HAS_KEYS: Final = "select exists (select from api_keys)"


class Server(NamedTuple):
    """A PostgreSQL server as a connection sees it; *sees_all*: also what other users' sessions do."""

    major: int
    version: str
    database: str
    user_name: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    standbys: str
    lock_timeout: str
    sees_all: bool


class Snapshot(NamedTuple):
    """A transaction that has been reading for so many *seconds*."""

    pid: int
    application_name: str
    seconds: float


class Heartbeat(NamedTuple):
    """A server that has said nothing for so many seconds, by the database's clock."""

    node: str
    silent: float


async def read_server(connection: Connection) -> Server:
    """Return what the server is, and how durable commits of this connection are."""
    (record,) = await connection.fetch(_SERVER)
    return Server(*record)


async def read_clock(connection: Connection) -> float:
    """Return the seconds since 1970."""
    return float(await connection.fetchval(_CLOCK))


async def count_room(connection: Connection) -> int:
    """Return how many connections more this user may open to this database."""
    return int(await connection.fetchval(_ROOM))


async def find_old_snapshot(connection: Connection, *, older_than: float) -> Snapshot | None:
    """Return the oldest transaction that keeps VACUUM from its work for more than so many seconds."""
    record = await connection.fetchrow(_OLD_SNAPSHOT, older_than)
    return None if record is None else Snapshot(*record)


async def read_heartbeats(connection: Connection) -> Sequence[Heartbeat]:
    """Return all servers on the database."""
    return [Heartbeat(*record) for record in await connection.fetch(_NODES)]


async def has_keys(connection: Connection) -> bool:
    """Whether somebody has ever made a key."""
    return bool(await connection.fetchval(_HAS_KEYS))
