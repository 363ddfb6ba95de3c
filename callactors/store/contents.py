"""What the AI step reads of a call."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from callactors.errors import UnknownCall
from callactors.packets import PacketKind
from callactors.store.connection import Pool, reading
from callactors.store.history import read_packets

PAGE: Final = 1_000

_READ: Final = """
select metadata::text, started_at, completed_at from calls where call_id = $1 and erased_at is null
"""


class Contents(NamedTuple):
    """What only the row knows of a call."""

    metadata: dict[str, Any]
    started_at: datetime
    completed_at: datetime | None


class StoredPacket(NamedTuple):
    """A packet of a call, as it was stored."""

    stream: str
    sequence: int
    kind: PacketKind
    timestamp: float
    data: str


async def read_contents(pool: Pool, call_id: str) -> Contents:
    """Return what the row of a call tells the AI step.

    Raises:
        UnknownCall: there is no such call any more.
        StorageUnavailable: the database does not answer.
    """
    async with reading(pool) as connection:
        record = await connection.fetchrow(_READ, call_id)
    if record is None:
        raise UnknownCall(call_id)
    return Contents(json.loads(record["metadata"]), record["started_at"], record["completed_at"])


async def read_page(
    pool: Pool, call_id: str, stream: str, after: int
) -> tuple[Sequence[StoredPacket], int | None]:
    """Return a page of the packets of *stream* behind sequence *after*, and after which the next one begins.

    Raises:
        UnknownCall, CallErased: there is no such call any more.
        StorageUnavailable: the database does not answer.
    """
    async with reading(pool) as connection:
        part = await read_packets(connection, call_id, stream, after=after, limit=PAGE)
    packets = [
        StoredPacket(stream, line["sequence"], line["kind"], line["timestamp"], line["data"])
        for line in part.lines
    ]
    return packets, part.next
