"""Many calls at once, each on a connection of its own, and what the server makes of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from aiohttp import ClientSession

from callactors.simulate.actions import Action
from callactors.simulate.checks import Checked, Checker
from callactors.simulate.connection import ClosedEarly, Pace, Refused, connect, make_session, play
from callactors.simulate.dialects import DIALECTS
from callactors.simulate.ledger import Difference, Ledger
from callactors.simulate.scripts import make_audio, make_ids, make_script
from callactors.simulate.trouble import Trouble, disturb


class Plan(NamedTuple):
    """What is asked for; *run* makes the calls' ids, *seed* chooses who has trouble."""

    url: str
    vendor: str
    calls: int
    seconds: float
    run: str
    seed: int
    key: str | None = None
    trouble: Trouble = Trouble()
    ramp: float = 0.0
    patience: float = 60.0


@dataclass(slots=True)
class Report:
    """What came out, and what is under way; times in seconds."""

    ledgers: list[Ledger] = field(default_factory=list)
    open_calls: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    missing: int = 0
    is_checking: bool = False
    lateness: list[float] = field(default_factory=list)
    sending_time: float = 0.0
    sending_cpu: float = 0.0

    @property
    def messages(self) -> int:
        return sum(ledger.messages for ledger in self.ledgers)

    @property
    def agrees(self) -> bool:
        """Whether the server took all, and knows what it should know."""
        return not self.refused and not self.differences


Record = Callable[[int, Action], None]
"""Takes down what was done in the call of a number."""


class Simulation:
    """The calls of *plan*; *report* grows while they run."""

    def __init__(self, plan: Plan, pace: Pace, record: Record | None = None) -> None:
        self.report = Report()
        self._plan = plan
        self._pace = pace
        self._record = record
        make_audio(plan.vendor)  # now, as it takes longer than a frame lasts
        dialect = DIALECTS[plan.vendor]
        self._address = plan.url + dialect.path + ("" if plan.key is None else f"/{plan.key}")

    async def run(self) -> Report:
        """Make all calls, and then ask the server about them."""
        plan, report = self._plan, self.report
        async with make_session() as session:
            started, cpu = time.monotonic(), time.process_time()
            async with asyncio.TaskGroup() as group:
                start = self._pace.now()
                for number in range(plan.calls):
                    group.create_task(self._call(session, start, number))
            report.sending_time, report.sending_cpu = time.monotonic() - started, time.process_time() - cpu
            report.lateness = sorted(self._pace.lateness)
            report.is_checking = True
            async with asyncio.TaskGroup() as group:
                checker = Checker(session, plan.url, plan.key, patience=plan.patience)
                checks = [group.create_task(checker.check(ledger)) for ledger in self._whole_calls()]
        for check in checks:
            self._add(check.result())
        return report

    async def _call(self, session: ClientSession, start: float, number: int) -> None:
        plan, dialect, report = self._plan, DIALECTS[self._plan.vendor], self.report
        await self._pace.wait(start, plan.ramp * number / plan.calls)
        ids = make_ids(dialect, plan.run, number)
        try:
            ws = await connect(session, self._address, subprotocol=dialect.subprotocol)
        except Refused as error:
            report.refused[str(error)] += 1
            return
        ledger = Ledger(ids.call, ids.stream if dialect.is_numbered else None)
        report.ledgers.append(ledger)
        rng = Random(f"{plan.seed}/{number}")  # noqa: S311  # chance, not secrets
        script = disturb(make_script(plan.vendor, ids, plan.seconds), plan.trouble, rng, plan.seconds)
        report.open_calls += 1
        try:
            async with ws:
                await play(ws, script, self._pace, self._make_note(ledger, number), start=self._pace.now())
        except ClosedEarly as error:
            report.differences.append(ledger.differ("connection", "open to the end", error))
        finally:
            report.open_calls -= 1

    def _make_note(self, ledger: Ledger, number: int) -> Callable[[Action], None]:
        record = self._record
        if record is None:
            return ledger.note

        def note(action: Action) -> None:
            ledger.note(action)
            record(number, action)

        return note

    def _whole_calls(self) -> list[Ledger]:
        broken = {difference.call_id for difference in self.report.differences}
        return [ledger for ledger in self.report.ledgers if ledger.call_id not in broken]

    def _add(self, checked: Checked) -> None:
        self.report.missing += checked.missing
        self.report.differences += checked.differences
