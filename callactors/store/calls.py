"""The read side: calls as they are committed."""

import json
from typing import Any, Final, NamedTuple

from callactors.call import Call
from callactors.errors import CallErased
from callactors.store.connection import Pool, reading
from callactors.store.rows import read_call
from callactors.store.summaries import EXACT, TAIL

_READ: Final = f"""
select c.*, {EXACT} from calls c cross join {TAIL} where c.call_id = $1
"""  # noqa: S608  # put together from constants
_DATA: Final = """
select p.data from packets p join calls c on c.call_no = p.call_no
where c.call_id = $1 and p.stream = $2 and p.sequence = $3
"""


class StoredCall(NamedTuple):
    """A call and what only its row knows."""

    call: Call
    columns: dict[str, Any]


async def read(pool: Pool, call_id: str) -> StoredCall | None:
    """Return the call as committed, or None.

    Counts are exact but `late` and `duplicates`, which are written from time to time only.

    Raises:
        CallErased: it was erased.
        StorageUnavailable: the database does not answer.
    """
    async with reading(pool) as connection:
        record = await connection.fetchrow(_READ, call_id)
    if record is None:
        return None
    if record["erased_at"] is not None:
        raise CallErased(call_id)
    columns = {name: record[name] for name in ("wake_at", "started_at", "completed_at", "finished_at")}
    columns["last_packet_at"] = record["last_received_at"]  # of a young call the row has none
    for name in ("metadata", "result", "last_error"):
        columns[name] = None if record[name] is None else json.loads(record[name])
    return StoredCall(read_call(record), columns)


async def read_data(pool: Pool, call_id: str, stream: str, sequence: int) -> str | None:
    """Return the data of one stored packet, or None.

    Raises:
        StorageUnavailable: the database does not answer.
    """
    async with reading(pool) as connection:
        data: str | None = await connection.fetchval(_DATA, call_id, stream, sequence)
    return data


async def ping(pool: Pool) -> None:
    """Return if the database answers.

    Raises:
        StorageUnavailable: it does not.
    """
    async with reading(pool) as connection:
        await connection.fetchval("select 1")
