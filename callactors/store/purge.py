"""Purging: calls that ended long ago go altogether, in batches that hold locks for milliseconds."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from callactors.store.connection import Connection

CALLS: Final = 100
PACKETS: Final = 1_000
"""What a batch takes at most."""

_HORIZON: Final = "select clock_timestamp() - $1::interval"
_PURGE: Final = "select * from purge_1($1, $2, $3, $4, $5)"

Place: TypeAlias = tuple[datetime | None, int]
"""The end and the number of a call: the next batch begins behind it."""
FIRST: Final[Place] = (None, 0)


class Batch(NamedTuple):
    """How many calls are gone, the numbers of those to be scrubbed before the next, and where that begins.

    *next* is None if nothing was found.
    """

    purged: int
    to_scrub: list[int]
    next: Place | None


async def read_horizon(connection: Connection, older_than: timedelta) -> datetime:
    """Return the time that was *older_than* ago, by the database's clock."""
    at: datetime = await connection.fetchval(_HORIZON, older_than)
    return at


async def purge_batch(connection: Connection, horizon: datetime, after: Place) -> Batch:
    """Delete some calls that ended before *horizon*, the oldest behind *after*, with all they have."""
    [record] = await connection.fetch(_PURGE, horizon, *after, CALLS, PACKETS)
    place = (record["place_at"], record["place_no"])
    return Batch(record["purged"], record["to_scrub"], place if record["has_found"] else None)
