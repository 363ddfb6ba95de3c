"""What the AI step reads of a call."""

import json
from asyncio import Event, Future, get_running_loop
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from callactors.errors import StorageUnavailable, UnknownCall
from callactors.packets import PacketKind
from callactors.store.connection import Pool, reading
from callactors.store.history import read_packets

PAGE: Final = 1_000

_READ: Final = """
select call_id, metadata::text, started_at, completed_at from calls
where call_id = any ($1) and erased_at is null
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


class ContentsReader:
    """Reads the contents of calls; those that are asked for meanwhile are read together."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: list[tuple[str, Future[Contents]]] = []
        self._asked: list[tuple[str, Future[Contents]]] = []
        self._has_work = Event()

    async def read(self, call_id: str) -> Contents:
        """Return what the row of a call tells the AI step.

        Raises:
            UnknownCall: there is no such call any more.
            StorageUnavailable: the database does not answer.
        """
        future: Future[Contents] = get_running_loop().create_future()
        self._waiting.append((call_id, future))
        self._has_work.set()
        return await future

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            self._asked, self._waiting = self._waiting, []
            found: dict[str, Contents] | StorageUnavailable
            try:
                found = await self._read({call_id for call_id, _ in self._asked})
            except StorageUnavailable as error:
                found = error
            _answer(self._asked, found)
            self._asked = []

    def close(self) -> None:
        """Answer who still waits with StorageUnavailable; `run` must have ended."""
        _answer([*self._asked, *self._waiting], StorageUnavailable())

    async def _read(self, call_ids: set[str]) -> dict[str, Contents]:
        async with reading(self._pool) as connection:
            records = await connection.fetch(_READ, list(call_ids))
        return {
            record["call_id"]: Contents(
                json.loads(record["metadata"]), record["started_at"], record["completed_at"]
            )
            for record in records
        }


def _answer(
    asked: Sequence[tuple[str, "Future[Contents]"]], found: dict[str, Contents] | StorageUnavailable
) -> None:
    for call_id, future in asked:
        if future.done():
            continue
        if isinstance(found, StorageUnavailable):
            future.set_exception(StorageUnavailable())
        elif call_id in found:
            future.set_result(found[call_id])
        else:
            future.set_exception(UnknownCall(call_id))


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
