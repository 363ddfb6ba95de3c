"""Databases beside the one that an embedded PostgreSQL has."""

from callactors.store.connection import connect


async def add_database(dsn: str, name: str) -> str:
    """Make the database *name*, like `callactors` is now, unless there is one; return its DSN."""
    admin = await connect(dsn.replace("/callactors?", "/postgres?"))
    try:
        if not await admin.fetchval("select exists (select from pg_database where datname = $1)", name):
            await admin.execute(f"create database {name} template callactors")
    finally:
        await admin.close()
    return dsn.replace("/callactors?", f"/{name}?")
