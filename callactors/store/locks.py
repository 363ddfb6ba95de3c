"""Rows that others hold: who waits for one of them must not make all others wait."""

from collections.abc import Iterable
from typing import Final

from callactors.store.connection import Connection

LOCK_TIMEOUT: Final = "500ms"
"""How long a flush or a claim waits for a row; our own locks are held for a few milliseconds."""
RETRY_INTERVAL: Final = 0.25  # seconds until what was locked is looked at again

_LOCKED: Final = """
with free as materialized (
    select c.call_no from calls c where c.call_id = any ($1) for no key update skip locked
)
select c.call_id from calls c where c.call_id = any ($1) and c.call_no not in (select f.call_no from free f)
"""


async def find_locked(connection: Connection, call_ids: Iterable[str]) -> set[str]:
    """Return those of *call_ids* whose row another session has locked."""
    return {record["call_id"] for record in await connection.fetch(_LOCKED, list(call_ids))}
