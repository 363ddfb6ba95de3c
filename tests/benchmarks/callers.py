"""A vendor in a process of its own: legs that send in real time what the simulator's scripts say."""

import asyncio
import gc
import json
import os
import signal
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from aiohttp import ClientSession

from callactors.simulate.actions import Action, Send
from callactors.simulate.connection import ClosedEarly, Pace, Refused, connect, make_session, play
from callactors.simulate.dialects import DIALECTS
from callactors.simulate.scripts import Ids, make_audio, make_ids, make_script
from tests.benchmarks.histogram import Histogram
from tests.benchmarks.machine import Reading, read_cores

VENDOR: Final = "twilio"
_SPACING: Final = 0.236 / DIALECTS[VENDOR].frames  # seconds; frames of any number of legs spread evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersPlan:
    """*legs* that begin one after the other, and then all send for *seconds*.

    The instruments of the server, which is *pid*, are told the beginning and the end.
    """

    port: int
    pid: int
    run: str
    legs: int
    seconds: float

    @property
    def ramp(self) -> float:
        """How long it takes until all have begun."""
        return self.legs * _SPACING

    @property
    def leg_seconds(self) -> float:
        """How long each leg lasts."""
        return self.ramp + self.seconds

    def make_ids(self, number: int) -> Ids:
        return make_ids(DIALECTS[VENDOR], self.run, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What came of it. `sent` is how many messages with a sequence each call has sent.

    `late` are the times by which messages were sent too late, as Times has them. The shares are of the
    seconds in which all legs send; `beside_busy` is that of the client's cores.
    """

    sent: dict[str, int]
    failed: dict[str, int]
    late: dict[str, float]
    rate: float
    busy: float
    waiting: float
    client_busy: float
    client_waiting: float
    beside_busy: float


class _Glance(NamedTuple):
    reading: Reading
    cores: tuple[float, float]
    sent: int

    def compare(self, after: "_Glance") -> dict[str, float]:
        """Return the shares between the two."""
        before, now = self.reading, after.reading
        wall = now.at - before.at
        return {
            "rate": (after.sent - self.sent) / wall,
            "busy": (now.cpu - before.cpu) / wall,
            "waiting": (now.waiting - before.waiting) / wall,
            "client_busy": (now.own_cpu - before.own_cpu) / wall,
            "client_waiting": (now.own_waiting - before.own_waiting) / wall,
            "beside_busy": (after.cores[0] - self.cores[0]) / (after.cores[1] - self.cores[1]),
        }


@dataclass(slots=True)
class _Leg:
    call_id: str
    sent: int = 0

    def note(self, action: Action) -> None:
        self.sent += isinstance(action, Send) and action.sequence is not None


@dataclass(slots=True)
class Callers:
    """All legs of *plan*."""

    plan: CallersPlan
    pace: Pace = field(default_factory=Pace)
    _legs: list[_Leg] = field(default_factory=list)
    _failed: Counter[str] = field(default_factory=Counter)

    async def run(self) -> Called:
        """Begin, send and end."""
        plan = self.plan
        make_audio(VENDOR)  # now, as it takes longer than a frame lasts
        os.kill(plan.pid, signal.SIGUSR1)
        async with make_session() as session, asyncio.TaskGroup() as group:
            start = self.pace.now()
            for number in range(plan.legs):
                group.create_task(self._call(session, start, number))
            await asyncio.sleep(plan.ramp)
            before = self._look()
            await asyncio.sleep(plan.seconds - 2 * _SPACING)
            shares = before.compare(self._look())
        os.kill(plan.pid, signal.SIGUSR2)
        late = Histogram()
        for seconds in self.pace.lateness:
            late.add(seconds)
        sent = {leg.call_id: leg.sent for leg in self._legs}
        return Called(sent=sent, failed=dict(self._failed), late=late.read().to_json(), **shares)

    async def _call(self, session: ClientSession, start: float, number: int) -> None:
        plan, ids = self.plan, self.plan.make_ids(number)
        await self.pace.wait(start, _SPACING * number)
        try:
            url = f"http://127.0.0.1:{plan.port}{DIALECTS[VENDOR].path}"
            ws = await connect(session, url, subprotocol=DIALECTS[VENDOR].subprotocol)
        except Refused as error:
            self._failed[f"refused: {error}"] += 1
            return
        leg = _Leg(ids.call)
        self._legs.append(leg)
        script = make_script(VENDOR, ids, plan.leg_seconds)
        try:
            async with ws:
                await play(ws, script, self.pace, leg.note, start=self.pace.now())
        except ClosedEarly as error:
            self._failed[str(error)] += 1

    def _look(self) -> _Glance:
        return _Glance(Reading.take(self.plan.pid), read_cores(), sum(leg.sent for leg in self._legs))


def main(arguments: dict[str, Any]) -> None:
    """Do what *arguments* ask for, and print it."""
    gc.disable()  # a pause would be told as lateness, and nothing here makes many cycles
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print(json.dumps(asdict(asyncio.run(Callers(CallersPlan(**arguments)).run()))))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
