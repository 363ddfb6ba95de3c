"""One long run: a database, a server, the load, supervisors, a backup's snapshot, and what came of it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import asyncpg

from callactors.store.embedded import EmbeddedPostgres
from callactors.store.events import Position
from tests.acceptance.client import Client
from tests.acceptance.floor import Watcher, judge
from tests.acceptance.history import Sql
from tests.acceptance.server import Server, Settings
from tests.acceptance.waiting import eventually
from tests.benchmarks.machine import Reading
from tests.faults.scene import ROOT, database
from tests.soak.churn import Churn
from tests.soak.samples import Sample, Sampler

_SETTINGS: Final[Settings] = {
    "node": "soak",
    "grace": 0.3,
    "idle_timeout": 2,
    "call_idle_timeout": 10,
    "attempt_timeout": 2,
    "retry_initial": 0.2,
    "flaky_latency_min": 0.05,
    "flaky_latency_max": 0.5,
    "flaky_hang_rate": 0.01,
}
_HABITS: Final = ("steady", "steady", "slow", "forgetful", "killed", "killed", "killed", "killed")
_NAP: Final = 0.2  # a slow one must be able to keep up with 300 transitions a second
_SAMPLES: Final = 240
_LEAST_INTERVAL: Final = 1.0
_HELD: Final = (1 / 3, 1 / 2)  # of the time: the second half, which is judged, is to be as the first was
_SILENCE: Final = 60.0  # seconds after which a server that does not answer is given up
_TO_END: Final = 60.0
_LAST: Final = "the-last"
_UNENDED: Final = "select count(*) from calls where finished_at is null and call_id <> $1"
_LOG: Final = (
    "select xid::text::int8, event_id from call_events where kind = 'transition'"
    " order by call_events.xid, event_id"
)
_STATES: Final = "select call_id, state from calls order by call_no"
_LOST: Final = """
select coalesce(sum(a.packets - (
    select count(*) from packets p
    where p.call_no = c.call_no and p.stream = '' and p.sequence between 1 and a.packets
        and p.data = a.call_id || '/' || p.sequence
)), 0)::int8
from unnest($1::text[], $2::int8[]) a (call_id, packets) left join calls c on c.call_id = a.call_id
"""


class Outcome(NamedTuple):
    """What came of a run.

    *busy* is the server's part of a core, *setbacks* is what came instead of an answer, and *wrong* what was
    wrong with what supervisors were told.
    """

    samples: Sequence[Sample]
    busy: float
    calls: int
    acked: int
    lost: int
    unended: int
    setbacks: Counter[str]
    wrong: Counter[str]


class Soak:
    """A run of so many *seconds* with *rate* packets a second; *on_sample* is called with each sample."""

    def __init__(self, seconds: float, rate: float, *, on_sample: Callable[[Sample], None]) -> None:
        self._seconds = seconds
        self._rate = rate
        self._on_sample = on_sample
        self._is_held = False
        self._busy = 0.0
        self._samples: list[Sample] = []

    async def run(self, place: Path) -> Outcome:
        """Run, with the server's files in *place*. What is wrong with its log or its end is raised."""
        extra = {"PYTHONPATH": str(ROOT), "FAULTS_REPORT": str(place / "report")}
        async with EmbeddedPostgres(data_dir=None) as postgres, database(postgres.dsn) as dsn:
            server = Server(place, dsn=dsn, settings=_SETTINGS, module="tests.faults.served", extra=extra)
            async with server, Client(server) as client, Churn(server, self._rate) as churn:
                sql = await asyncpg.connect(dsn)
                wrong = await self._watch(server, client, churn, sql)
                unended = await sql.fetchval(_UNENDED, _LAST)
                await sql.close()
            return Outcome(
                samples=self._samples,
                busy=self._busy,
                calls=len(churn.acked),
                acked=sum(churn.acked.values()),
                lost=await count_lost(dsn, churn.acked),
                unended=unended,
                setbacks=churn.setbacks,
                wrong=wrong,
            )

    async def _watch(self, server: Server, client: Client, churn: Churn, sql: Sql) -> Counter[str]:
        """Let supervisors watch the load, and return what was wrong with what they were told."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            watchers = [Watcher([server], session, habit, str(n)) for n, habit in enumerate(_HABITS)]
            for watcher in watchers:
                watcher.nap = _NAP
            watching = [asyncio.create_task(watcher.watch()) for watcher in watchers]
            try:
                await self._load(Sampler(server, client, churn, sql), churn, server)
                await _tell_the_last(client, watchers, sql)
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
        log = [Position(*row) for row in await sql.fetch(_LOG)]
        states: dict[str, str] = {row["call_id"]: row["state"] for row in await sql.fetch(_STATES)}
        wrong: Counter[str] = Counter()
        for watcher in watchers:
            wrong += Counter({"cursors that fall": watcher.counts["cursors that fall"]})
            wrong += judge(watcher, log, states)
        return wrong

    async def _load(self, sampler: Sampler, churn: Churn, server: Server) -> None:
        """Let the callers call for the time of the run, and look at it all again and again."""
        loop = asyncio.get_running_loop()
        interval = max(_LEAST_INTERVAL, self._seconds / _SAMPLES)
        begin = at = loop.time()
        before = Reading.take(server.pid)
        async with asyncio.TaskGroup() as group:
            group.create_task(churn.run())
            group.create_task(self._back_up(server))
            while at < begin + self._seconds:
                async with asyncio.timeout(_SILENCE):
                    sample = await sampler.take(is_held=self._is_held)
                self._samples.append(sample)
                self._on_sample(sample)
                at = max(at + interval, loop.time())
                await asyncio.sleep(at - loop.time())
            after = Reading.take(server.pid)
            self._busy = (after.cpu - before.cpu) / (after.at - before.at)
            churn.end()

    async def _back_up(self, server: Server) -> None:
        """Hold a snapshot as a backup does."""
        begin, end = (self._seconds * part for part in _HELD)
        await asyncio.sleep(begin)
        connection = await asyncpg.connect(server.dsn)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.fetchval("select count(*) from calls")
                self._is_held = True
                await asyncio.sleep(end - begin)
                self._is_held = False
        finally:
            await connection.close()


async def count_lost(dsn: str, acked: dict[str, int]) -> int:
    """Return how many packets are not stored as sent, of those that were acknowledged of each call."""
    sql = await asyncpg.connect(dsn)
    try:
        lost: int = await sql.fetchval(_LOST, list(acked), list(acked.values()))
        return lost
    finally:
        await sql.close()


async def _tell_the_last(client: Client, watchers: Sequence[Watcher], sql: Sql) -> None:
    """Wait until all calls have ended and all supervisors have seen one more, or for some time."""

    async def have_ended() -> bool:
        return not await sql.fetchval(_UNENDED, _LAST)

    async def have_seen_it() -> bool:
        return all(_LAST in watcher.view for watcher in watchers)

    for watcher in watchers:
        watcher.nap = 0.0
    with suppress(TimeoutError):
        await eventually(have_ended, within=_TO_END)
        await client.deliver(_LAST, 1)
        await eventually(have_seen_it, within=_TO_END)
