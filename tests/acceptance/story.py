"""The whole job once: senders, a crash in the middle, every call to its end, and the checker's table.

    python -m tests.acceptance.story [--packets 10000] [--calls 100] [--seed 1]

The server runs on a PostgreSQL of its own with durability on, in a temporary directory.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from callactors.store.embedded import EmbeddedPostgres
from tests.acceptance.checker import Report, check
from tests.acceptance.client import NO_ANSWER, Client
from tests.acceptance.history import Key, read_stored
from tests.acceptance.server import Server, Settings
from tests.acceptance.supervisor import Supervisor
from tests.acceptance.waiting import eventually

STREAMS: Final = ("", "inbound", "outbound")
SETTINGS: Final[Settings] = {
    "grace": 0.5,
    "flaky_latency_min": 0.05,
    "flaky_latency_max": 0.5,
    "flaky_failure_rate": 0.4,
    "retry_initial": 0.2,
}
_REORDERED: Final = 20  # how far a packet may fall behind
_IN_FLIGHT: Final = 4  # senders a call
_CALLS_AT_ONCE: Final = 25  # so that the crash finds calls in every state


class Result(NamedTuple):
    """What the checker found in the database, and what clients and supervisor saw."""

    report: Report
    duplicates: int
    """202s that said so."""
    seen: int
    """Transitions that the supervisor saw, across the crash."""
    missed: int
    repeated: int
    recovery: float
    """Seconds from the kill to the next 202."""

    @property
    def is_clean(self) -> bool:
        return not (self.report.findings or self.missed or self.repeated)

    def table(self) -> str:
        told = [(name, getattr(self, name)) for name in ("duplicates", "seen", "missed", "repeated")]
        lines = [f"{name:<14}{value:>8}" for name, value in told]
        return "\n".join([self.report.table(), *lines, f"{'recovery':<14}{self.recovery:>8.2f}  seconds"])


def make_stream(call_id: str, count: int, rng: random.Random) -> list[Key]:
    """Return *count* packets of a call in 1-3 streams, reordered, and 10 % of them twice."""
    streams = STREAMS[: rng.randint(1, len(STREAMS))]
    places = [*range(count), *rng.sample(range(count), count // 10)]
    places.sort(key=lambda place: place + rng.uniform(0, _REORDERED))
    return [Key(call_id, streams[place % len(streams)], place // len(streams) + 1) for place in places]


class Story:
    """One run: the server, its clients, and what they did."""

    def __init__(self, place: Path, *, packets: int, calls: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self._place = place
        self._packets = packets
        self._streams = {
            call_id: make_stream(call_id, packets // calls, self._rng)
            for call_id in (f"call-{n:04}" for n in range(calls))
        }
        self._server = Server(place, "--data-dir", str(place / "data"), settings=SETTINGS)
        self._recovery = 0.0
        self._duplicates = 0

    async def run(self) -> Result:
        """Tell it, and return what the checker found."""
        async with self._server, Client(self._server) as client:
            supervisor = await Supervisor(client).connect()
            at_once = asyncio.Semaphore(_CALLS_AT_ONCE)
            async with asyncio.TaskGroup() as everybody:
                everybody.create_task(self._follow(supervisor))
                for call_id, keys in self._streams.items():
                    everybody.create_task(self._make_call(client, call_id, keys, at_once))
                everybody.create_task(self._crash(client))
            await supervisor.close()
        return await self._check(client, supervisor)

    async def _make_call(
        self, client: Client, call_id: str, keys: Sequence[Key], at_once: asyncio.Semaphore
    ) -> None:
        async with at_once:
            waiting = iter(keys)
            await asyncio.gather(*(self._send(client, waiting) for _ in range(_IN_FLIGHT)))
            last: dict[str, int] = {}
            for key in keys:
                last[key.stream] = max(last.get(key.stream, 0), key.sequence)
            says_last = self._rng.random() < 0.5
            await client.finish(call_id, **({"last_sequence": last} if says_last else {}))

    async def _send(self, client: Client, waiting: Iterator[Key]) -> None:
        for key in waiting:
            reply = await client.deliver(key.call_id, key.sequence, stream=key.stream)
            self._duplicates += reply.body["duplicate"]

    async def _crash(self, client: Client) -> None:
        """Kill the server in the middle, start it again, and take the time until the next 202."""
        await _until_acked(client, self._packets // 2)
        begin = asyncio.get_running_loop().time()
        await self._server.kill()
        acked = len(client.history.acked)
        await self._server.start()
        await _until_acked(client, acked + 1)
        self._recovery = asyncio.get_running_loop().time() - begin

    async def _follow(self, supervisor: Supervisor) -> None:
        """Watch until every call was seen at its end, coming back with the cursor when the server is gone."""
        while True:
            try:
                while await supervisor.next() is not None:
                    if supervisor.ended >= self._streams.keys():
                        return
                await supervisor.connect(since=supervisor.cursor)
            except NO_ANSWER:
                await asyncio.sleep(0.1)

    async def _check(self, client: Client, supervisor: Supervisor) -> Result:
        async with EmbeddedPostgres(data_dir=self._place / "data") as postgres:
            sql = await asyncpg.connect(postgres.dsn)
            try:
                stored = await read_stored(sql)
            finally:
                await sql.close()
        seen = Counter((event["call_id"], event["version"]) for event in supervisor.events)
        logged = Counter((e.call_id, e.version) for e in stored.events if e.kind == "transition")
        return Result(
            report=check(client.history, stored),
            duplicates=self._duplicates,
            seen=seen.total(),
            missed=(logged - seen).total(),
            repeated=(seen - logged).total(),
            recovery=self._recovery,
        )


async def _until_acked(client: Client, count: int) -> None:
    async def are_acked() -> bool:
        return len(client.history.acked) >= count

    await eventually(are_acked, within=600)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the story and print the table; 0 if it is clean."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.story", description=__doc__)
    parser.add_argument("--packets", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = vars(parser.parse_args(arguments))
    with tempfile.TemporaryDirectory(prefix="callactors-story-") as name:
        Path(name).chmod(0o711)  # PostgreSQL may have to run as another user
        result = asyncio.run(Story(Path(name), **options).run())
    sys.stdout.write(result.table() + "\n")
    return 0 if result.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
