"""One round: a database, servers, a provider, senders and supervisors, and what was seen of them."""

import asyncio
import gc
import json
import os
import random
import re
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
import asyncpg

from callactors.store.embedded import EmbeddedPostgres
from callactors.store.events import Position
from tests.acceptance.client import Client
from tests.acceptance.floor import Watcher, judge
from tests.acceptance.history import Sql, read_stored
from tests.acceptance.server import Server, Settings
from tests.acceptance.supervisor import Supervisor
from tests.acceptance.waiting import eventually
from tests.cluster_scenes import Nats, nats_server
from tests.faults.checkers import tell_leaks
from tests.faults.evidence import Claim, Evidence, Expected, Fault, FaultHistory, Resources, Stop
from tests.faults.ownership import count_joined, keep_claims, read_claims, read_owners
from tests.faults.provider import Provider
from tests.faults.workload import Workload
from tests.proxy import Proxy, proxy_to

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[2]
HABITS: Final = ("steady",) * 6 + ("slow",) * 2 + ("killed",) * 2
SETTINGS: Final[Settings] = {
    "grace": 0.3,
    "attempt_timeout": 1.0,
    "retry_initial": 0.1,
    "ai_pause": 1,
    "idle_timeout": 0.7,
}
_LAST: Final = "the-last"
_LIVE: Final = (
    "select call_id, epoch, version from calls where state in ('IN_PROGRESS', 'COMPLETED', 'PROCESSING_AI')"
)
_UNENDED: Final = (
    "select count(*) from calls where state not in ('ARCHIVED', 'FAILED') and call_id <> 'the-last'"
)
_LOG: Final = (
    "select xid::text::int8, event_id from call_events where kind = 'transition'"
    " order by call_events.xid, event_id"
)
_CALLS: Final = "select call_id, state from calls order by call_no"
CONNECTIONS: Final = (
    "select count(*) from pg_stat_activity"
    " where (datname, application_name) = (current_database(), 'callactors')"
)
_SAMPLE_INTERVAL: Final = 0.25
_NAP: Final = 0.3
_AGAIN: Final = (0.1, 0.5)  # seconds between a first ack and the next fault
_TO_END: Final = 40.0


class Length(NamedTuple):
    """How long a round breaks things, what comes before and after it, in seconds, and how many calls live."""

    before: float
    faults: float
    after: float
    calls: int


SHORT: Final = Length(0.4, 1.2, 0.6, 100)
LONG: Final = Length(2.0, 30.0, 5.0, 200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nemesis:
    """What breaks things in a round, told by the docstring of *strike*, and what the round needs for that.

    *strike* breaks and heals something once. *known* matches records of the server's log that look like bugs
    but are what the nemesis asks for. *extra* are variables of the servers' environment; {place} in them is
    the round's directory.
    """

    name: str
    strike: Callable[["Scene"], Awaitable[None]]
    expected: Expected = field(default_factory=Expected)
    servers: int = 1
    is_cluster: bool = False
    """Whether there is a NATS server for them."""
    is_wired: bool = False
    """Whether there is a wire to PostgreSQL, or in a cluster from each server to NATS."""
    patience: float = 20.0
    """How long a sender waits for an answer, in seconds."""
    rest: float = 0.0
    """How long it does nothing between an answer and what it sends next, in seconds on average."""
    settings: Settings = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    known: str | None = None
    postgres: Callable[[Path], AbstractAsyncContextManager[EmbeddedPostgres]] | None = None
    """Makes a PostgreSQL of the round's own, in a directory of its own."""
    is_covered: bool = False
    """Whether another nemesis strikes so too: then it is not among those of the short form by default."""
    lacks: Callable[[], str | None] = lambda: None
    """Tells what this machine lacks for it."""

    @property
    def line(self) -> str:
        return (self.strike.__doc__ or "").splitlines()[0]


class Scene:
    """What a nemesis can lay hands on."""

    def __init__(
        self, nemesis: Nemesis, postgres: EmbeddedPostgres, place: Path, seed: str, length: Length
    ) -> None:
        self.nemesis = nemesis
        self.postgres = postgres
        self.rng = random.Random(seed)
        self.history = FaultHistory()
        self.faults = 0
        self.servers: list[Server] = []
        self.place = place
        self._seed = seed
        self._length = length
        self._faults_at: float | None = None
        self.heals: list[float] = []
        self.wires: list[Proxy] = []
        self._struck: list[Fault] = []
        self._claims: list[Claim] = []
        self._peak_memory = 0
        self._stops: list[Stop] = []
        self._bag: list[Any] = []

    @property
    def disk(self) -> Path:
        """Where a PostgreSQL of the round's own has its small disk."""
        return self.place / "disk"

    @property
    def server(self) -> Server:
        return self.servers[0]

    async def run(self) -> Evidence:
        """Play the round."""
        async with AsyncExitStack() as stack:
            stack.enter_context(without_collector())
            self.dsn = await stack.enter_async_context(database(self.postgres.dsn))
            self.proxy: Proxy = await stack.enter_async_context(proxy_to(self.dsn))
            self.provider: Provider = await stack.enter_async_context(Provider(seed=self._seed))
            if self.nemesis.is_cluster:
                self.nats: Nats = await stack.enter_async_context(nats_server())
            await self._start_servers(stack)
            if self.nemesis.is_cluster:
                await self.until_joined()
                async with self.sql() as sql:
                    await keep_claims(sql)
            before = await self._read_resources()
            supervisors = await self._play(stack)
            after = await self._settle(before)
            await asyncio.gather(*(self.stop(server) for server in self.servers))
            return await self._collect(supervisors, before, after)

    @asynccontextmanager
    async def fault(self, *struck: Server) -> AsyncIterator[None]:
        """Break something inside, for these servers of a cluster or for all: at the end it is healed."""
        owners: dict[str, int] = {}
        if self.nemesis.is_cluster:
            async with self.sql() as sql:
                owners = await read_owners(sql, [f"node-{number}" for number in range(len(self.servers))])
        numbers = {self.servers.index(server) for server in struck or self.servers}
        self.faults += 1
        self._faults_at = self._faults_at or now()
        self._struck.append(Fault(now(), {call: owner for call, owner in owners.items() if owner in numbers}))
        yield
        self.heals.append(now())

    def choose(self, options: Sequence[T]) -> T:
        """Return one of *options*, by chance but each in its turn. For one set of options in a round."""
        if not self._bag:
            self._bag = self.rng.sample(options, len(options))
        chosen: T = self._bag.pop()
        return chosen

    async def until_acked(self, count: int) -> None:
        """Return when so many packets more are acknowledged."""
        wanted = len(self.history.acks) + count

        async def are_acked() -> bool:
            return len(self.history.acks) >= wanted

        await eventually(are_acked, within=_TO_END)

    async def stop(self, server: Server) -> None:
        """Ask *server* to stop, and write down how it does, with a supervisor connected."""
        async with Client(server) as client:
            supervisor = await Supervisor(client).connect()
            begin = now()
            reading = asyncio.create_task(supervisor.read_to_close())
            code = await server.terminate()
            self._stops.append(Stop(code, now() - begin, [await reading]))

    @asynccontextmanager
    async def sql(self) -> AsyncIterator[Sql]:
        """A connection of one's own to the round's database, that no wire is in the way of."""
        connection = await asyncpg.connect(self.dsn, timeout=5)
        try:
            yield connection
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await connection.close(timeout=2)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Sql]:
        """A connection to another database of the same server."""
        connection = await asyncpg.connect(self.postgres.dsn)
        try:
            yield connection
        finally:
            await connection.close()

    async def until_database(self) -> None:
        """Return when the database takes connections."""

        async def takes() -> bool:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                connection = await asyncpg.connect(self.dsn, timeout=1)
                await connection.close(timeout=1)
                return True
            return False

        await eventually(takes, within=_TO_END)

    async def until_joined(self) -> None:
        """Return when all servers of the cluster reach each other."""

        async def are_joined() -> bool:
            async with self.sql() as sql:
                return await count_joined(sql) == len(self.servers)

        await eventually(are_joined, within=_TO_END)

    async def _join_nats(self, stack: AsyncExitStack) -> Settings:
        """Return how the next server reaches NATS."""
        if not self.nemesis.is_cluster:
            return {}
        if not self.nemesis.is_wired:
            return {"nats": self.nats.url}
        wire = await stack.enter_async_context(proxy_to(self.nats.url))
        self.wires.append(wire)
        return {"nats": f"nats://127.0.0.1:{wire.port}"}

    async def _start_servers(self, stack: AsyncExitStack) -> None:
        is_wired = self.nemesis.is_wired and not self.nemesis.is_cluster
        dsn = self.proxy.dsn if is_wired else self.dsn
        for number in range(self.nemesis.servers):
            place = self.place / f"server-{number}"
            place.mkdir()
            extra = {
                "PYTHONPATH": str(ROOT),
                "FAULTS_PROVIDER": self.provider.url,
                "FAULTS_REPORT": str(place / "report"),
                **{name: value.format(place=self.place) for name, value in self.nemesis.extra.items()},
            }
            joining = await self._join_nats(stack)
            settings = {**SETTINGS, "node": f"node-{number}", **joining, **self.nemesis.settings}
            server = Server(place, dsn=dsn, settings=settings, module="tests.faults.served", extra=extra)
            stack.push_async_callback(end, server)
            self.servers.append(server)
        await asyncio.gather(*(server.start() for server in self.servers))

    async def _play(self, stack: AsyncExitStack) -> Counter[str]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            rounds = [self.servers[n:] + self.servers[:n] for n in range(len(self.servers))]
            watchers = [
                Watcher(rounds[n % len(rounds)], session, habit, f"{self._seed}/{n}")
                for n, habit in enumerate(HABITS)
            ]
            for watcher in watchers:
                watcher.nap = _NAP
            watching = [asyncio.create_task(watcher.watch()) for watcher in watchers]
            sampling = asyncio.create_task(self._sample())
            try:
                await self._send()
                await wait_for(self._have_ended)
                await self._tell_the_last(watchers)
            finally:
                for task in (*watching, sampling):
                    task.cancel()
                await asyncio.gather(*watching, sampling, return_exceptions=True)
        return await self._judge(watchers)

    async def _send(self) -> None:
        """Let the senders work while the nemesis does and some time longer, and end their calls."""
        self.workload = Workload(
            self.servers,
            self.history,
            self._seed,
            calls=self._length.calls,
            patience=self.nemesis.patience,
            rest=self.nemesis.rest,
        )
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self.workload.run())
            await asyncio.sleep(self._length.before)
            await self.until_acked(1)
            until = now() + self._length.faults
            while not self.faults or now() < until:
                await self.nemesis.strike(self)
                await self.until_acked(1)
                await asyncio.sleep(self.rng.uniform(*_AGAIN))
            await asyncio.sleep(self._length.after)
            self.workload.end()
            await asyncio.wait((sending,), timeout=_TO_END)
            sending.cancel()

    async def _tell_the_last(self, watchers: list[Watcher]) -> None:
        """Wait until every supervisor has seen a call that is made behind all others."""
        for watcher in watchers:
            watcher.nap = 0.0
        async with Client(self.server, self.history) as client:
            await client.deliver(_LAST, 1)

        async def has_everybody() -> bool:
            return all(_LAST in watcher.view for watcher in watchers)

        await wait_for(has_everybody)

    async def _have_ended(self) -> bool:
        async with self.sql() as sql:
            return not await sql.fetchval(_UNENDED)

    async def _settle(self, before: Resources) -> Resources:
        """Wait until the servers hold no more than *before*, and return what the first one holds."""
        after = before

        async def have_settled() -> bool:
            nonlocal after
            after = await self._read_resources()
            others = [await self._ready(server) for server in self.servers[1:]]
            return not tell_leaks(before, after) and not any(other["resident_calls"] for other in others)

        await wait_for(have_settled)
        return after

    async def _ready(self, server: Server) -> Any:
        async with Client(server) as client:
            return (await client.request("GET", "/ready")).body

    async def _sample(self) -> None:
        """Look at the rows of live calls and at the servers' memory, again and again."""
        seen: dict[str, Claim] = {}
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                async with self.sql() as sql:
                    while True:
                        for row in await sql.fetch(_LIVE, timeout=2):
                            claim = Claim(*row)
                            if seen.get(claim.call_id) != claim:
                                seen[claim.call_id] = claim
                                self._claims.append(claim)
                        self._peak_memory = max(self._peak_memory, *map(resident_memory, self.servers))
                        await asyncio.sleep(_SAMPLE_INTERVAL)
            await asyncio.sleep(_SAMPLE_INTERVAL)

    async def _judge(self, watchers: list[Watcher]) -> Counter[str]:
        async with self.sql() as sql:
            log = [Position(*row) for row in await sql.fetch(_LOG)]
            states: dict[str, str] = {row["call_id"]: row["state"] for row in await sql.fetch(_CALLS)}
        found: Counter[str] = Counter()
        for watcher in watchers:
            found += Counter({"cursors that fall": watcher.counts["cursors that fall"]})
            found += judge(watcher, log, states)
        return found

    async def _read_resources(self) -> Resources:
        """Return what the first server holds on to, and its share of the connections to the database."""
        last = await read_report(self.server)
        resident = (await self._ready(self.server))["resident_calls"]
        async with self.sql() as sql:
            connections = await sql.fetchval(CONNECTIONS)
        return Resources(last["tasks"], last["files"], connections // len(self.servers), resident)

    async def _collect(self, supervisors: Counter[str], before: Resources, after: Resources) -> Evidence:
        async with self.sql() as sql:
            stored = await read_stored(sql)
            if self.nemesis.is_cluster:
                self._claims = await read_claims(sql)
        assert self._faults_at is not None, f"{self.nemesis.name} has done nothing"
        return Evidence(
            history=self.history,
            stored=stored,
            claims=self._claims,
            provider=self.provider.requests,
            supervisors=supervisors,
            faults_at=self._faults_at,
            heals=self.heals,
            before=before,
            after=after,
            peak_memory=self._peak_memory,
            server_log=_without(self.nemesis.known, "".join(server.log for server in self.servers)),
            stops=self._stops,
            expected=self.nemesis.expected,
            faults=self._struck if self.nemesis.is_cluster else (),
        )


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep Python's collector from all that is remembered: a pause would be told as the servers'."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator[str]:
    """An empty database of its own in the server of *dsn*."""
    name = f"round_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(dsn)
    try:
        await admin.execute(f"create database {name}")
    finally:
        await admin.close()
    yield dsn.replace("/callactors?", f"/{name}?")


async def read_report(server: Server) -> Any:
    """Let *server*, which runs `tests.faults.served`, write its report beside its log, and return that."""
    report = server.log_file.with_name("report")
    told = report.read_text() if report.exists() else ""
    server.signal(signal.SIGUSR2)

    async def has_told() -> bool:
        return report.exists() and len(report.read_text()) > len(told) and report.read_text().endswith("\n")

    await eventually(has_told)
    return json.loads(report.read_text().splitlines()[-1])


async def end(server: Server) -> None:
    """Kill *server* if it still runs: a round that was given up leaves nothing behind."""
    if server.is_running:
        server.signal(signal.SIGCONT)
        await server.kill()


def resident_memory(server: Server) -> int:
    """Return the bytes of memory that the server's process has; 0 if there is none."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _without(known: str | None, log: str) -> str:
    if known is None:
        return log
    records = re.split(r"^(?=\d{4}-\d\d-\d\d \d\d:)", log, flags=re.MULTILINE)
    return "".join(record for record in records if not re.search(known, record))


async def wait_for(claim: Callable[[], Awaitable[object]]) -> None:
    """Return when *claim* holds, or after some time: the checkers tell what has not come true."""
    with suppress(TimeoutError):
        await eventually(claim, within=_TO_END)


def now() -> float:
    """Return the time by the clock that all of this is written down with."""
    return asyncio.get_running_loop().time()
