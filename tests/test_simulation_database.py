"""The simulated database is held against PostgreSQL: the same statements, and the same answers.

Tried: hundreds of made-up claims, flushes, heartbeats and looks for what is due, one after another, and pairs
of which one waits for the row that the other has locked.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final, TypeAlias

import asyncpg
import pytest

from callactors.call import Call
from callactors.facts import Change
from callactors.legs import Lifetimes
from callactors.packets import CompleteRequest, Packet
from callactors.retry import Done, Retry, RetryPolicy
from callactors.store import calls, claims, contents, due, locks, nodes
from callactors.store.connection import connect
from callactors.store.flush import CallChanges, flush
from callactors.store.rows import Claimed, read_claimed
from tests.simulation.connection import connect as connect_simulated
from tests.simulation.database import Database
from tests.simulation.weather import Weather
from tests.storage import WAITING, Sql

OWNERS: Final = ("north/1", "south/1", "south/2")
CALLS: Final = ("b", "a", "c", "B")
_AT_ONCE: Final = Weather(way=0.0, commit=0.0)
_ROUGHLY: Final = 20.0  # seconds: what is nearer than that took place at the same time


Work: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Does something with a connection to either database."""


async def outcome(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except asyncpg.PostgresError as error:
        return type(error)


def plain(answer: Any) -> Any:
    """Return what both should say: records without an order, times only roughly, and JSON as it is meant."""
    if not isinstance(answer, list):
        return answer
    rows = [{name: _plain(name, value) for name, value in dict(record).items()} for record in answer]
    for row in rows:
        if row.get("tail_streams"):  # which of two with the same sequence comes first is nobody's business
            row["tail"] = sorted(zip(row.pop("tail_streams"), row.pop("tail_sequences"), strict=True))
    return sorted(rows, key=lambda row: str(row.get("call_id")))


def _plain(name: str, value: Any) -> Any:
    if name in ("wake_in", "idle", "age", "step_age"):
        return None if value is None else round(value / _ROUGHLY)
    if name in ("wake_at", "started_at", "completed_at"):
        return value is not None
    return json.loads(value) if name in ("streams", "legs", "metadata") else value


class Bases:
    """The real database and the simulated one, with connections to each."""

    def __init__(self, dsn: str, seed: int) -> None:
        self.simulated = Database(asyncio.get_running_loop(), Random(seed), _AT_ONCE)
        self._dsn = dsn

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[Any, Any]]:
        """Connect to both."""
        real = await connect(self._dsn)
        settings = {"lock_timeout": "2s"}
        simulated = await connect_simulated(
            self.simulated, self._dsn, command_timeout=6.0, server_settings=settings
        )
        yield real, simulated
        await real.close()

    async def is_blocked(self, real: Any) -> list[bool]:
        """Whether somebody waits for a lock there, and here."""
        there = await real.fetchval(f"select exists (select {WAITING})")
        return [there, any(self.simulated._waiting.values())]


class Sender:
    """Makes up statements; it knows of each call what its last claim told."""

    def __init__(self, seed: int, *, has_poison: bool) -> None:
        self.rng = Random(seed)
        self._has_poison = has_poison
        self._claimed: dict[tuple[str, str], Claimed] = {}

    def learn(self, answer: Any) -> None:
        """Remember what a claim has told."""
        for record in answer if isinstance(answer, list) else ():
            if "is_mine" in dict(record) and record["is_mine"]:
                self._claimed[self._owner, record["call_id"]] = read_claimed(record)

    def claim(self) -> Work:
        rng = self.rng
        owner, ids = rng.choice(OWNERS), rng.sample(CALLS, rng.randint(1, len(CALLS)))
        creates = [rng.random() < 0.4 for _ in ids]
        spares = [one for one in ids if rng.random() < 0.3]
        arguments = (ids, creates, spares, rng.random() < 0.5, 3.0, rng.choice((60.0, 3_600.0)))
        self._owner = owner
        return lambda connection: connection.fetch(claims._CLAIM, owner, *arguments)

    def flush(self) -> Work:
        rng, owner = self.rng, self.rng.choice(OWNERS)
        keys = [key for key in self._claimed if key[0] == owner or rng.random() < 0.1]
        chosen = {
            call_id: self._claimed[who, call_id] for who, call_id in rng.sample(keys, min(2, len(keys)))
        }
        changes = [
            CallChanges(one.call_no, call_id, one.epoch - (rng.random() < 0.1), self._decide(one.call))
            for call_id, one in chosen.items()
        ]
        times = rng.choice((1, 1, 2))  # twice as after a commit of unknown outcome

        async def work(connection: Any) -> Any:
            return [{"flushed": await flush(connection, owner, changes)} for _ in range(times)]

        return work

    def _decide(self, call: Call) -> list[Change]:
        return [self._decide_once(call) for _ in range(self.rng.randint(1, 3))]

    def _decide_once(self, call: Call) -> Change:
        rng, facts = self.rng, call.facts
        if rng.random() < 0.5 and facts.state.takes_packets:
            return call.accept(self._packet())[0]
        if rng.random() < 0.3:
            return Change((self._packet(),), is_repeat=rng.random() < 0.5)
        if rng.random() < 0.2:
            return call.release() if rng.random() < 0.5 else call.count_crash()
        if facts.state == "IN_PROGRESS" and rng.random() < 0.4:
            server = rng.choice(("", *OWNERS))
            return call.begin_stream("s", {"vendor": "v"}, server, lifetimes=Lifetimes(), age=0.0)
        if facts.state == "IN_PROGRESS":
            request = CompleteRequest(metadata={"n": rng.randint(1, 3)})
            return call.complete(request, grace=rng.choice((0.0, 600.0)), attempt_timeout=60.0)[0]
        if facts.state == "COMPLETED":
            return call.end_grace(attempt_timeout=rng.choice((-10.0, 600.0)))
        if facts.is_attempting:
            outcome = rng.choice((Done({"x": 1}), Retry("no"), Retry("no", after=0.0)))
            return call.finish_attempt(outcome, RetryPolicy(initial=600.0, max_delay=600.0), rng.random)
        if facts.state == "FAILED":
            return call.retry(attempt_timeout=60.0)
        return Change() if facts.state.is_final else call.begin_attempt(attempt_timeout=60.0)

    def _packet(self) -> Packet:
        rng = self.rng
        data = rng.choice(("x", "x", "x", "y"))
        stream = rng.choice(("", "", "s"))
        is_poison = self._has_poison and rng.random() < 0.03
        packet = Packet(sequence=rng.randint(0, 12), data=data, timestamp=1.0, stream=stream)
        return packet.model_copy(update={"data": "a\x00b"}) if is_poison else packet

    def look(self) -> Work:
        rng, owner, may_take_stale = self.rng, self.rng.choice(OWNERS), self.rng.random() < 0.5
        queries: list[tuple[Any, ...]] = [
            (due._DUE, 0.0, 0, owner, may_take_stale, 3.0, rng.choice((1, 1_000))),
            (due._ORPHANS, owner, may_take_stale, 3.0),
            (due._LOST, owner, may_take_stale, 3.0),
            (nodes._BEAT, owner, 1.0, False),
            (nodes._LEAVE, owner),
            (nodes._JOIN, owner.partition("/")[0], "1 hour"),
            (calls._DATA, rng.choice(CALLS), "", rng.randint(0, 12)),
            (contents._READ, rng.sample(CALLS, 2)),
            (locks._LOCKED, list(CALLS)),
        ]
        query = rng.choice(queries)
        return lambda connection: connection.fetch(*query)


@pytest.mark.parametrize("seed", range(8))
async def test_statements_one_after_the_other_answer_alike(dsn: str, seed: int) -> None:
    bases, sender = Bases(dsn, seed), Sender(seed, has_poison=True)
    async with bases.connected() as (real, simulated):
        for _ in range(150):
            work = sender.rng.choice((sender.claim, sender.flush, sender.flush, sender.look))()
            there, here = await outcome(work(real)), await outcome(work(simulated))
            assert plain(here) == plain(there)
            sender.learn(there)


@pytest.mark.parametrize("seed", range(8))
async def test_who_waits_for_a_lock_answers_alike(dsn: str, sql: Sql, seed: int) -> None:
    bases, sender = Bases(dsn, seed), Sender(seed, has_poison=False)
    has_waited = 0

    async def overlap(first: Any, second: Any, works: Sequence[Work], place: int) -> list[Any]:
        nonlocal has_waited
        async with first.transaction():
            one = await works[0](first)
            other = asyncio.create_task(outcome(works[1](second)))
            while not (other.done() or (await bases.is_blocked(sql))[place]):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)
            has_waited += not other.done()
            found = await works[2](first)
        return [one, await other, found]

    async with bases.connected() as first, bases.connected() as second:
        for _ in range(40):
            works = [sender.rng.choice((sender.claim, sender.flush))() for _ in range(2)]
            works.append(lambda connection: connection.fetch(locks._LOCKED, list(CALLS)))
            there, here = [await overlap(first[i], second[i], works, i) for i in range(2)]
            assert [*map(plain, here)] == [*map(plain, there)]
            sender.learn(there[1])
    assert has_waited > 10, "pairs that do not meet show nothing"
