"""Checks of the database, all of them reads."""

import time
from collections.abc import Callable
from typing import Final

from callactors.doctor.findings import Finding, error, ok, warning
from callactors.errors import DatabaseTooNew, DatabaseUnreachable, MigrationEdited
from callactors.settings import Settings
from callactors.store import checkup
from callactors.store.binaries import OLDEST_MAJOR
from callactors.store.checkup import Server
from callactors.store.connection import Connection, connected, wait_for_database
from callactors.store.events import find_holder
from callactors.store.migrations import read_state
from callactors.store.nodes import LEASE

_CONNECTIONS: Final = (
    15  # of one server: five for reads, and one for each part that writes or looks by itself
)
_CLOCK_TOLERANCE: Final = 2.0
_HELD_BACK: Final = 1.0  # seconds from which on clients are told `degraded`
_OLD_SNAPSHOT: Final = 600.0
_DURABLE: Final = frozenset({"on", "remote_apply"})


async def check_database(
    dsn: str, settings: Settings, *, clock: Callable[[], float] = time.time
) -> list[Finding]:
    """Look at all that is in the database, if it can be reached; *clock* is this machine's."""
    found: list[Finding] = []
    try:
        await wait_for_database(dsn, patience=0)
        async with connected(dsn) as connection:
            server = await checkup.read_server(connection)
            found += [check_version(server), *check_durability(server, settings)]
            found += check_settings(server)
            found += [await _check_clock(connection, clock), await _check_room(connection)]
            found += await _check_horizon(connection, server)
            found += await _check_schema(connection, settings)
    except DatabaseUnreachable as failure:
        found.append(error("database", str(failure)))
    return found


def check_version(server: Server) -> Finding:
    """Look whether it is new enough."""
    text = f"PostgreSQL {server.version}, database {server.database}, as {server.user_name}"
    if server.major < OLDEST_MAJOR:
        return error("database", text, f"{OLDEST_MAJOR} is the oldest that will do; upgrade it")
    return ok("database", text)


def check_durability(server: Server, settings: Settings) -> list[Finding]:
    """Look whether what is committed survives a crash."""
    found = []
    unsafe = [f"{name} = off" for name in ("fsync", "full_page_writes") if getattr(server, name) != "on"]
    if unsafe:
        accept = warning if settings.unsafe_durability else error
        text = f"{' and '.join(unsafe)}, so that a 202 does not survive a crash"
        found.append(accept("durability", text, "switch it on in postgresql.conf"))
    if server.synchronous_commit not in _DURABLE:
        text = f"synchronous_commit = {server.synchronous_commit} on a connection that asked for on"
        mend = (
            "have the pooler pass it on, or say so for the user: alter role ... set synchronous_commit = on"
        )
        found.append(error("durability", text, mend))
    waits = f", and each commit waits for {server.standbys}" if server.standbys else ""
    return found or [ok("durability", f"commits are flushed before they are answered{waits}")]


def check_settings(server: Server) -> list[Finding]:
    """Look whether a connection is set up as it has asked to be."""
    if server.lock_timeout != "0":
        return []
    text = "a pooler drops what connections ask to be set, so that one lock can hold up all calls"
    return [warning("settings", text, "set it for the user, as docs/operating.md says of PgBouncer")]


async def _check_clock(connection: Connection, clock: Callable[[], float]) -> Finding:
    before = clock()
    theirs = await checkup.read_clock(connection)
    after = clock()
    difference = theirs - (before + after) / 2
    text = f"the database's is {abs(difference):.1f} s {'ahead' if difference > 0 else 'behind'}"
    if abs(difference) > _CLOCK_TOLERANCE + (after - before):
        return warning("clock", text, "let both set their clocks by NTP; calls are timed by the database's")
    return ok("clock", text)


async def _check_room(connection: Connection) -> Finding:
    room = await checkup.count_room(connection)
    text = f"PostgreSQL takes {room} more; a server needs up to {_CONNECTIONS}"
    if room < _CONNECTIONS:
        return warning("connections", text, "raise max_connections, or the limit of the user or database")
    return ok("connections", text)


async def _check_horizon(connection: Connection, server: Server) -> list[Finding]:
    """Look who holds back what; a user without rights is not shown the sessions of others."""
    found = []
    holder = await find_holder(connection)
    if holder is not None and holder["seconds"] >= _HELD_BACK:
        name, end = holder["application_name"] or "no name", f"select pg_terminate_backend({holder['id']})"
        if holder["kind"] == "prepared":
            name, end = "prepared", f"rollback prepared '{holder['id']}' in database {holder['database']}"
        text = (
            f"a transaction of {holder['id']} ({name}, user {holder['user']}) has been open for"
            f" {holder['seconds']:.0f} s and holds back supervisors' events"
        )
        found.append(warning("events", text, f"let it end, or {end}"))
    if (snapshot := await checkup.find_old_snapshot(connection, older_than=_OLD_SNAPSHOT)) is not None:
        text = (
            f"session {snapshot.pid} ({snapshot.application_name or 'no name'}) has been reading for"
            f" {snapshot.seconds:.0f} s and keeps VACUUM from its work: tables grow"
        )
        mend = f"let it end, or select pg_terminate_backend({snapshot.pid})"
        found.append(warning("snapshots", text, mend))
    seen = "" if server.sees_all else " as far as is shown without pg_read_all_stats"
    return found or [ok("events", f"nobody holds them back{seen}")]


async def _check_schema(connection: Connection, settings: Settings) -> list[Finding]:
    """Look at migrations, and if they are done, at what they have made."""
    try:
        pending, newer = await read_state(connection)
    except (DatabaseTooNew, MigrationEdited) as failure:
        return [error("migrations", str(failure))]
    if pending:
        text = f"{len(pending)} are to be applied, {pending[0]} first"
        return [warning("migrations", text, "the next server that starts does so")]
    more = f"; newer code has applied {', '.join(newer)}, which does no harm here" if newer else ""
    keys = check_keys(settings, has_keys=await checkup.has_keys(connection))
    return [ok("migrations", f"all are applied{more}"), *await _check_servers(connection), keys]


async def _check_servers(connection: Connection) -> list[Finding]:
    heartbeats = await checkup.read_heartbeats(connection)
    silent = [one for one in heartbeats if one.silent > LEASE]
    found = [
        warning(
            "servers",
            f"{one.node} has been silent for {one.silent:.0f} s, without having left",
            "others take up its calls; start it again, or see why it hangs",
        )
        for one in silent
    ]
    names = ", ".join(one.node.partition("/")[0] for one in heartbeats if one not in silent)
    return [*found, ok("servers", f"alive: {names}" if names else "none is alive")]


def check_keys(settings: Settings, *, has_keys: bool) -> Finding:
    """Look whether a server that can be reached from elsewhere is open to everybody."""
    if has_keys:
        return ok("keys", "there are some, so that requests need one")
    if settings.is_loopback:
        return ok("keys", f"there are none, and {settings.host} is this machine's alone")
    mend = "make one: callactors keys create --scope ingest"
    if settings.insecure:
        return warning("keys", f"there are none, and whoever reaches {settings.host} is let in", mend)
    return error("keys", f"there are none, and {settings.host} can be reached from elsewhere", mend)
