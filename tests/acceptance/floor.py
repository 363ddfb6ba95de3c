"""A floor of supervisors over two restarts of the server: does each see every transition, once, in order?

    python -m tests.acceptance.floor [--supervisors 2000] [--seconds 60] [--seed 1]

Some are slow, some break their connection off again and again, some forget their cursor and begin anew. The
server is first stopped in order and later killed, on a PostgreSQL of its own with durability on.
"""

import argparse
import asyncio
import functools
import json
import random
import sys
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from callactors.store.embedded import EmbeddedPostgres
from callactors.store.events import START, Cursor, Position
from tests.acceptance.client import NO_ANSWER, Client
from tests.acceptance.server import Server
from tests.acceptance.story import SETTINGS
from tests.acceptance.waiting import eventually

RATE: Final = 20.0  # transitions a second, of which a call has four
HABITS: Final = ("steady", "steady", "steady", "slow", "killed", "forgetful")
_LOG: Final = (
    "select xid::text::int8, event_id from call_events where kind = 'transition'"
    " order by call_events.xid, event_id"
)
_CALLS: Final = "select call_id, state from calls order by call_no"
_LAST: Final = "the-last"
FINDINGS: Final = (
    "cursors that fall",
    "invented",
    "repeated",
    "holes",
    "late beginnings",
    "unfinished",
    "wrong views",
)
_SURELY_SHOWN: Final = 400  # of the newest calls; a snapshot has the 500 that ended last


@functools.cache
def _position(cursor: str) -> Position:
    parsed = Cursor.parse(cursor)
    assert parsed is not None
    return parsed.position


@dataclass(slots=True)
class _Run:
    """What was told without a break: the transitions behind *begin*."""

    begin: Position
    told: list[Position] = field(default_factory=list)


class Watcher:
    """One supervisor, which comes back to the next server when its connection ends, and what it was told."""

    def __init__(
        self, servers: Sequence[Server], session: aiohttp.ClientSession, habit: str, seed: str
    ) -> None:
        self.view: dict[str, tuple[str, int]] = {}
        self.runs: list[_Run] = []
        self.counts: Counter[str] = Counter()
        self.position = START
        self.nap = 4.0
        """For how many seconds at most a slow one does not read, now and then."""
        self._servers = cycle(servers)
        self._session = session
        self._habit = habit
        self._rng = random.Random(seed)
        self._cursor: str | None = None
        self._pause = 0.0

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._read()
            except NO_ANSWER:
                self.counts["connections broken"] += 1
            await asyncio.sleep(self._pause or self._rng.uniform(0, 1))
            self._pause = 0.0

    async def _read(self) -> None:
        if self._habit == "forgetful":
            self._cursor = None
        query = {"snapshot": "1"} if self._cursor is None else {"since": self._cursor}
        url = f"{next(self._servers).url}/ws/supervisor"
        async with self._session.ws_connect(url, params=query) as ws:
            self.counts["connections"] += 1
            frames_to_live = self._rng.randint(20, 400) if self._habit == "killed" else sys.maxsize
            async for message in ws:
                self._take(json.loads(message.data))
                frames_to_live -= 1
                if frames_to_live == 0:
                    ws._response.close()
                    return
                if self._habit == "slow" and self._rng.random() < 0.02:
                    await asyncio.sleep(self._rng.uniform(0, self.nap))

    def _take(self, frame: Mapping[str, Any]) -> None:
        match frame["type"]:
            case "event":
                self._take_event(frame)
            case "snapshot":
                self._take_snapshot(frame)
            case "bye":
                self._pause = frame["retry_after_ms"] / 1_000
            case "gap":
                self.counts["gaps"] += 1
        if "cursor" in frame and frame["type"] != "snapshot":
            self._move(frame["cursor"])

    def _take_event(self, frame: Mapping[str, Any]) -> None:
        self.counts["events"] += 1
        self.runs[-1].told.append(_position(frame["cursor"]))
        call_id, version = frame["call_id"], frame["version"]
        if version > self.view.get(call_id, ("", 0))[1]:
            self.view[call_id] = frame["state"], version

    def _take_snapshot(self, frame: Mapping[str, Any]) -> None:
        if frame["part"] == 1:
            self.view.clear()
            self.counts["snapshots"] += 1
        for call in frame["calls"]:
            self.view[call["call_id"]] = call["state"], call["version"]
        if frame["last"]:
            self._cursor, self.position = frame["cursor"], _position(frame["cursor"])
            self.runs.append(_Run(self.position))

    def _move(self, cursor: str) -> None:
        self.counts["cursors that fall"] += _position(cursor) < self.position
        self._cursor, self.position = cursor, _position(cursor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the watchers were told beside what the log holds."""

    transitions: int
    calls: int
    restarts: int
    counts: Counter[str]

    @property
    def is_clean(self) -> bool:
        return not any(self.counts[name] for name in FINDINGS)

    def table(self) -> str:
        told = {"transitions in the log": self.transitions, "calls": self.calls, "restarts": self.restarts}
        told |= dict(sorted(self.counts.items())) | {name: self.counts[name] for name in FINDINGS}
        return "\n".join(f"{name:<28}{value:>10,}" for name, value in told.items())


def judge(watcher: Watcher, log: Sequence[Position], states: Mapping[str, str]) -> Counter[str]:
    """Count what is wrong with what one watcher was told, given all transitions of the log in order."""
    found: Counter[str] = Counter()
    place = {position: number for number, position in enumerate(log)}
    for run in watcher.runs:
        numbers = [place[position] for position in run.told if position in place]
        found["invented"] += len(run.told) - len(numbers)
        found["repeated"] += len(numbers) - len(set(numbers))
        found["holes"] += sum(b != a + 1 for a, b in pairwise(numbers))
        found["late beginnings"] += bool(numbers) and numbers[0] != bisect_right(log, run.begin)
    last = watcher.runs[-1] if watcher.runs else _Run(START)
    found["unfinished"] += (last.told[-1] if last.told else last.begin) < log[-1]
    view = {call_id: state for call_id, (state, _) in watcher.view.items()}
    newest = dict(list(states.items())[-_SURELY_SHOWN:])
    found["wrong views"] += not (newest.items() <= view.items() <= states.items())
    return found


class Floor:
    """One run: the server, the calls, and those who watch."""

    def __init__(self, place: Path, *, supervisors: int, seconds: float, seed: int) -> None:
        self._data = place / "data"
        self._seconds = seconds
        self._supervisors = supervisors
        self._seed = seed
        self._server = Server(place, "--data-dir", str(self._data), settings=SETTINGS)
        self._restarts = 0

    async def run(self) -> Result:
        """Watch calls over the restarts, and judge what each supervisor was told."""
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            self._server,
            Client(self._server) as client,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            watchers = [
                Watcher([self._server], session, HABITS[n % len(HABITS)], f"{self._seed}/{n}")
                for n in range(self._supervisors)
            ]
            tasks = [asyncio.create_task(watcher.watch()) for watcher in watchers]
            await eventually(lambda: _all(bool(watcher.runs) for watcher in watchers), within=120)
            async with asyncio.TaskGroup() as work:
                work.create_task(self._make_calls(client))
                work.create_task(self._restart())
            await eventually(functools.partial(_have_ended, client), within=120)
            await client.deliver(_LAST, 1)
            await eventually(lambda: _all(_LAST in watcher.view for watcher in watchers), within=120)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            cut_off = (await client.request("GET", "/ready")).body["supervisors_cut_off"]
        return await self._judge(watchers, cut_off)

    async def _make_calls(self, client: Client) -> None:
        async with asyncio.TaskGroup() as calls:
            for number in range(int(self._seconds * RATE / 4)):
                calls.create_task(self._make_call(client, f"call-{number:05}"))
                await asyncio.sleep(4 / RATE)

    async def _make_call(self, client: Client, call_id: str) -> None:
        await client.deliver(call_id, 1)
        await client.finish(call_id, last_sequence={"": 1})

    async def _restart(self) -> None:
        await asyncio.sleep(self._seconds / 3)
        await self._server.terminate()
        await self._server.start()
        await asyncio.sleep(self._seconds / 3)
        await self._server.restart()
        self._restarts = 2

    async def _judge(self, watchers: Sequence[Watcher], cut_off: int) -> Result:
        async with EmbeddedPostgres(data_dir=self._data) as postgres:
            sql = await asyncpg.connect(postgres.dsn)
            try:
                log = [Position(*row) for row in await sql.fetch(_LOG)]
                states: dict[str, str] = {row["call_id"]: row["state"] for row in await sql.fetch(_CALLS)}
            finally:
                await sql.close()
        counts = Counter({"supervisors": len(watchers), "cut off since the restart": cut_off})
        for watcher in watchers:
            counts += watcher.counts
            counts += judge(watcher, log, states)
        return Result(transitions=len(log), calls=len(states), restarts=self._restarts, counts=counts)


async def _all(claims: Iterable[bool]) -> bool:
    return all(claims)


async def _have_ended(client: Client) -> bool:
    states = (await client.request("GET", "/v1/stats")).body["states"]
    return not any(states.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and print the table; 0 if it is clean."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.floor", description=__doc__)
    parser.add_argument("--supervisors", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = vars(parser.parse_args(arguments))
    with tempfile.TemporaryDirectory(prefix="callactors-floor-") as name:
        Path(name).chmod(0o711)  # PostgreSQL may have to run as another user
        result = asyncio.run(Floor(Path(name), **options).run())
    sys.stdout.write(result.table() + "\n")
    return 0 if result.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
