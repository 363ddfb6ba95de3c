"""The figures of all calls and servers on the database, made at most once a second whoever asks."""

import asyncio
from asyncio import Task
from typing import Any, Final

from callactors.states import CallState
from callactors.store.connection import Connection, Pool, reading
from callactors.store.nodes import LEASE
from callactors.store.summaries import tell_time

MAX_AGE: Final = 1.0
ENDED_BOUND: Final = 100_000
EVENTS_BOUND: Final = 5_000

_LIVE: Final = """
select state, count(*) as calls,
    count(*) filter (where state = 'PROCESSING_AI' and not attempt_running) as retrying
from calls where finished_at is null group by state
"""
_ENDED: Final = f"""
select state, count(*) as calls from (
    select state from calls where finished_at > statement_timestamp() - interval '1 hour'
    order by finished_at desc, call_no desc limit {ENDED_BOUND}
) c group by state
"""  # noqa: S608  # put together from constants
_PACKETS: Final = """
select coalesce(sum(packet_rate), 0) as rate, clock_timestamp() as at
from nodes where heartbeat_at > clock_timestamp() - make_interval(secs => $1)
"""
# The outcome of an attempt is its start's next event.
_ATTEMPTS: Final = f"""
select count(seconds) as attempts,
    percentile_cont(array[0.5, 0.95]) within group (order by seconds) as quantiles
from (
    select extract(epoch from e.at - (
        select s.at from call_events s where s.call_no = e.call_no and s.version = e.version - 1
            and s.kind = 'attempt' and s.detail->>'phase' = 'started'
    ))::float8 as seconds
    from (select * from call_events order by event_id desc limit {EVENTS_BOUND}) e
    where e.kind = 'attempt' and e.detail->>'phase' in ('succeeded', 'failed')
) attempts
"""  # noqa: S608  # put together from constants


class Stats:
    """Reads the figures for all who ask at about the same time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._reading: Task[dict[str, Any]] | None = None
        self._read_at = 0.0

    async def read(self, *, max_age: float = MAX_AGE) -> dict[str, Any]:
        """Return the figures, at most *max_age* seconds old.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        now = asyncio.get_running_loop().time()
        task = self._reading
        if task is None or (task.done() and (_has_failed(task) or now - self._read_at >= max_age)):
            task = self._reading = asyncio.create_task(self._read())
            task.add_done_callback(_has_failed)  # somebody must have looked, also if nobody waits any more
            self._read_at = now
        return await asyncio.shield(task)

    @property
    def latest(self) -> dict[str, Any] | None:
        """The figures that were read last; None if they could not be read."""
        task = self._reading
        return None if task is None or not task.done() or _has_failed(task) else task.result()

    async def close(self) -> None:
        """Let go of what is being read."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> dict[str, Any]:
        async with reading(self._pool) as connection:
            return await read_stats(connection)


async def read_stats(connection: Connection) -> dict[str, Any]:
    """Return the figures: live calls exactly, ended ones and attempts as far back as the bounds reach."""
    live = await connection.fetch(_LIVE)
    ended = {state: 0 for state in CallState if state.is_final}
    ended |= {CallState(r["state"]): r["calls"] for r in await connection.fetch(_ENDED)}
    [packets] = await connection.fetch(_PACKETS, LEASE)
    [attempts] = await connection.fetch(_ATTEMPTS)
    median, slow = [round(seconds, 3) for seconds in attempts["quantiles"] or ()] or (None, None)
    return {
        "at": tell_time(packets["at"]),
        "states": {state: 0 for state in CallState if not state.is_final}
        | {r["state"]: r["calls"] for r in live},
        "ended": ended,
        "ended_is_bounded": sum(ended.values()) >= ENDED_BOUND,
        "retrying": sum(r["retrying"] for r in live),
        "failed_last_hour": ended[CallState.FAILED],
        "packets_per_second": round(packets["rate"], 1),
        "attempt_seconds": {"p50": median, "p95": slow, "attempts": attempts["attempts"]},
    }


def _has_failed(task: "Task[Any]") -> bool:
    return task.cancelled() or task.exception() is not None
