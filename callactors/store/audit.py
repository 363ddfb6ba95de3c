"""The audit: who did what to keys and calls. Lines are added and never changed."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from callactors.logs import about
from callactors.store.connection import Connection
from callactors.store.summaries import tell_time

log = logging.getLogger(__name__)

_WRITE: Final = "insert into audit (actor, action, call_id, detail) values ($1, $2, $3, $4)"
_READ: Final = """
select audit_id, at, actor, action, call_id, detail from audit where audit_id < $1
order by audit_id desc limit $2
"""
_NEWEST: Final = 2**63 - 1


async def write_audit(
    connection: Connection,
    actor: str,
    action: str,
    *,
    call_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a line, in the transaction of what it tells."""
    await connection.execute(_WRITE, actor, action, call_id, json.dumps(detail or {}))


async def try_to_write_audit(
    connection: Connection, actor: str, action: str, *, call_id: str | None = None, detail: Mapping[str, Any]
) -> None:
    """Add a line about what is done already; if the database has no room for it, say so in the log."""
    try:
        await write_audit(connection, actor, action, call_id=call_id, detail=detail)
    except asyncpg.PostgresError as error:
        about(log, call_id).warning("%s, but there is no line in the audit: %s", action, error)


async def read_audit(connection: Connection, *, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Return up to *limit* lines, the newest first: those before the line with number *before*."""
    records = await connection.fetch(_READ, _NEWEST if before is None else before, limit)
    return [
        {
            "number": record["audit_id"],
            "at": tell_time(record["at"]),
            "actor": record["actor"],
            "action": record["action"],
            "call_id": record["call_id"],
            "detail": json.loads(record["detail"]),
        }
        for record in records
    ]
