"""The databases that are measured: an embedded PostgreSQL, and others beside the one that it has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from callactors.store.connection import connect
from callactors.store.embedded import EmbeddedPostgres

_SEGMENTS: Final = 64  # of 16 MiB: as many as a checkpoint keeps with this setting
_SETTINGS: Final = {"min_wal_size": "1GB"}


@asynccontextmanager
async def worn_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL of its own with durability on, whose WAL files are there as on one that has run for a day.

    A new one fills each file with zeros when it comes to it, and every commit waits some 30 ms meanwhile.
    """
    async with EmbeddedPostgres(data_dir=None, settings=_SETTINGS) as postgres:
        admin = await connect(postgres.dsn)
        try:
            for _ in range(_SEGMENTS):
                await admin.execute("select pg_logical_emit_message(false, 'worn', ''), pg_switch_wal()")
            await admin.execute("checkpoint")
        finally:
            await admin.close()
        yield postgres


async def add_database(dsn: str, name: str) -> str:
    """Make the database *name*, like `callactors` is now, unless there is one; return its DSN."""
    admin = await connect(dsn.replace("/callactors?", "/postgres?"))
    try:
        if not await admin.fetchval("select exists (select from pg_database where datname = $1)", name):
            await admin.execute(f"create database {name} template callactors")
    finally:
        await admin.close()
    return dsn.replace("/callactors?", f"/{name}?")
