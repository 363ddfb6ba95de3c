"""What is looked at every few seconds."""

import asyncio
from statistics import median
from typing import Final, NamedTuple

from tests.acceptance.client import Client
from tests.acceptance.history import Sql
from tests.acceptance.server import Server
from tests.benchmarks.machine import resident_set
from tests.faults.scene import CONNECTIONS, read_report
from tests.soak.churn import Churn

_PROBES: Final = 9
_TABLES: Final = """
select sum(n_dead_tup)::float8 as dead, sum(pg_total_relation_size(relid))::float8 as size
from pg_stat_user_tables
"""
_MIB: Final = 1024 * 1024


class Sample(NamedTuple):
    """One look: *at* in hours since the beginning, *is_held* is whether a backup has its snapshot open.

    Memory and the size of all tables are in MiB; Python's *blocks* and *dead* rows in thousands; *latency*,
    of a packet sent by itself (the median of some), and *lag*, by how much the loop was late at most, in ms.
    """

    at: float
    is_held: bool
    memory: float
    blocks: float
    files: float
    tasks: float
    connections: float
    resident: float
    latency: float
    lag: float
    dead: float
    size: float


class Sampler:
    """Looks at a server, at its clients' latency and at its database; *sql* is a connection of its own."""

    def __init__(self, server: Server, client: Client, churn: Churn, sql: Sql) -> None:
        self._server = server
        self._client = client
        self._churn = churn
        self._sql = sql
        self._begin = _now()
        self._number = 0

    async def take(self, *, is_held: bool) -> Sample:
        """Look now."""
        latency = await self._probe()
        told = await read_report(self._server)
        ready = (await self._client.request("GET", "/ready")).body
        [tables] = await self._sql.fetch(_TABLES)
        return Sample(
            at=(_now() - self._begin) / 3_600,
            is_held=is_held,
            memory=resident_set(self._server.pid) / _MIB,
            blocks=told["blocks"] / 1_000,
            files=told["files"],
            tasks=told["tasks"],
            connections=await self._sql.fetchval(CONNECTIONS),
            resident=ready["resident_calls"],
            latency=latency * 1_000,
            lag=told["lag"] * 1_000,
            dead=tables["dead"] / 1_000,
            size=tables["size"] / _MIB,
        )

    async def _probe(self) -> float:
        """Return the seconds that a packet takes, in a call of its own that is completed."""
        self._number += 1
        call_id, times = f"probe-{self._number:05}", []
        for sequence in range(1, _PROBES + 1):
            begin = _now()
            await self._churn.send(call_id, sequence)
            times.append(_now() - begin)
        await self._churn.complete(call_id)
        return median(times)


def _now() -> float:
    return asyncio.get_running_loop().time()
