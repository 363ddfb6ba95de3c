"""Nodes: who is alive, by the database's clock."""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from callactors.store.connection import Connection, Session

LEASE: Final = 3.0
_HEARTBEAT_INTERVAL: Final = 1.0
_RATE_BEATS: Final = 5  # over how many heartbeats packets per second are told
_FORGET: Final = "1 hour"  # nodes that were silent for so long are gone for good

_JOIN: Final = """
delete from nodes where starts_with(node, $1 || '/') or heartbeat_at < clock_timestamp() - $2::text::interval
"""
_BEAT: Final = """
insert into nodes (node, heartbeat_at, packet_rate, is_routed) values ($1, clock_timestamp(), $2, $3)
on conflict (node) do update
set heartbeat_at = excluded.heartbeat_at, packet_rate = excluded.packet_rate, is_routed = excluded.is_routed
"""
_LEAVE: Final = "delete from nodes where node = $1"
_OUT_OF_REACH: Final = """
select u.call_id from unnest($1::text[]) u (call_id)
left join calls c on c.call_id = u.call_id left join nodes n on n.node = c.owner
where n.node is null or n.node = $2 or not n.is_routed or ($3 and not is_alive_1(n.node, $4))
"""


class Node:
    """This process among the servers on the same database.

    *name* must be its own; a process that starts with the name of another takes its place. *count_packets*
    tells how many packets this process has stored so far, *is_routed* whether the others reach it.
    """

    def __init__(
        self,
        dsn: str,
        name: str,
        *,
        count_packets: Callable[[], int] = int,
        is_routed: Callable[[], bool] = bool,
    ) -> None:
        self.name = name
        self.owner = f"{name}/{uuid.uuid4()}"
        self._session = Session(dsn, "heartbeat")
        self._count_packets = count_packets
        self._is_routed = is_routed
        self._is_to_beat = asyncio.Event()
        self._counted: deque[tuple[float, int]] = deque(maxlen=_RATE_BEATS + 1)
        self._last_beat = 0.0
        self._steady_since = 0.0

    @property
    def may_take_stale(self) -> bool:
        """Whether another node's old heartbeat means it is dead: after an outage all heartbeats are old."""
        now = asyncio.get_running_loop().time()
        return now - self._last_beat < LEASE and now - self._steady_since >= LEASE

    async def join(self) -> None:
        """Join: older boots of this name are dead from now on."""

        async def join(connection: Connection) -> None:
            await connection.execute(_JOIN, self.name, _FORGET)
            await connection.execute(_BEAT, self.owner, 0.0, False)

        await self._session.run(join)
        self._last_beat = self._steady_since = now = asyncio.get_running_loop().time()
        self._counted.append((now, self._count_packets()))

    async def find_out_of_reach(self, connection: Connection, call_ids: Sequence[str]) -> list[str]:
        """Return those of *call_ids* that no server has which others reach: they may be claimed."""
        records = await connection.fetch(_OUT_OF_REACH, call_ids, self.owner, self.may_take_stale, LEASE)
        return [record["call_id"] for record in records]

    async def leave(self) -> None:
        """Leave, if the database answers; else the heartbeat just grows old. `run` must have ended."""
        try:
            async with asyncio.timeout(1):
                await self._session.run(lambda connection: connection.execute(_LEAVE, self.owner))
        except TimeoutError:
            pass
        finally:
            self._session.close()

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            timer = loop.call_later(_HEARTBEAT_INTERVAL, self._is_to_beat.set)
            try:
                await self._is_to_beat.wait()
            finally:
                timer.cancel()
            self._is_to_beat.clear()
            rate = self._measure_rate(loop.time())
            await self._session.run(partial(self._beat, rate=rate))
            now = loop.time()
            if now - self._last_beat > LEASE:
                self._steady_since = now
            self._last_beat = now

    def beat_soon(self) -> None:
        """Let the others know at once what they learn from the heartbeat."""
        self._is_to_beat.set()

    async def _beat(self, connection: Connection, *, rate: float) -> None:
        await connection.execute(_BEAT, self.owner, rate, self._is_routed())

    def _measure_rate(self, now: float) -> float:
        """Return the packets per second since the oldest of the last heartbeats."""
        self._counted.append((now, self._count_packets()))
        (since, before), (_, packets) = self._counted[0], self._counted[-1]
        return (packets - before) / (now - since) if now > since else 0.0
