"""What statements cost: the buffers they touch and the WAL they write, those of the functions in them too."""

import json
from typing import Any, Final, NamedTuple

from callactors.store.connection import Connection

_EXPLAIN: Final = "explain (analyze, buffers, wal, timing off, format json)"


class Cost(NamedTuple):
    """Per item; WAL in bytes without the commit's, time in microseconds. `images` are full-page images."""

    buffers: float = 0.0
    wal: float = 0.0
    time: float = 0.0
    images: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    def per(self, items: int) -> "Cost":
        return Cost(*(value / items for value in self))


class Meter:
    """Stands for a connection: explains what it is asked to run, and adds up what that cost.

    It answers as flush_3 does when nothing is wrong.
    """

    def __init__(self, sql: Connection) -> None:
        self._sql = sql
        self._cost = Cost()

    async def fetchrow(self, query: str, *arguments: object) -> dict[str, Any]:
        told = json.loads(await self._sql.fetchval(f"{_EXPLAIN} {query}", *arguments))[0]
        plan = told["Plan"]
        buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        time = told["Execution Time"] * 1000
        self._cost += Cost(buffers, plan["WAL Bytes"], time, plan["WAL FPI"])
        return {"fenced": None, "conflicts": None, "repeat_conflicts": None}

    def read(self) -> Cost:
        """Return the sum since the last reading."""
        cost, self._cost = self._cost, Cost()
        return cost
