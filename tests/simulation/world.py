"""A schedule: a plan is carried out, all faults end, every call comes to its end, and all is compared."""

import asyncio
import hashlib
import logging
from collections import Counter, defaultdict
from dataclasses import replace
from math import inf
from random import Random
from typing import Any, Final, NamedTuple

from callactors.errors import Unavailable, UnknownCall
from callactors.facts import Accepted
from callactors.packets import Packet
from callactors.states import CallState
from tests.simulation.checks import (
    check_answer,
    check_asked,
    check_call,
    check_change,
    check_flush,
    check_unknown,
    pair,
)
from tests.simulation.database import Database, Job
from tests.simulation.functions import Record
from tests.simulation.loop import Stuck, make_loop
from tests.simulation.plan import SERVERS, Deed, Fault, Operation, Plan, Trouble
from tests.simulation.provider import Asked, Provider
from tests.simulation.senders import patient, perform, send_all
from tests.simulation.servers import Fatal, Lost, Request, Server
from tests.simulation.surroundings import Complaints, simulated
from tests.simulation.tables import CallRow, PacketKey

_SENDING: Final = 120.0  # seconds until all senders have their answers, however slow it all is
_ENDING: Final = 60.0  # seconds from the end of all faults to the end of all calls
_SENT_AGAIN: Final = 4


class Report(NamedTuple):
    """What came of a schedule: what was violated, and what happened when, in microseconds, line by line."""

    violations: list[str]
    trace: list[tuple[Any, ...]]
    counts: Counter[str]

    @property
    def digest(self) -> str:
        """A hash of all that happened."""
        return hashlib.sha256(repr(self.trace).encode()).hexdigest()


def run(plan: Plan) -> Report:
    """Carry out *plan*."""
    return _World(plan).run()


class _World:
    """The servers, their database and their senders."""

    def __init__(self, plan: Plan) -> None:
        conditions = plan.conditions
        self._plan = plan
        self._has_one_outage = plan.has_one_outage
        self._rng = Random(plan.seed + 1)
        self._violations: list[str] = []
        self._trace: list[tuple[Any, ...]] = []
        self._counts: Counter[str] = Counter()
        self._loop = loop = make_loop(Random(plan.seed + 2) if conditions.is_shuffled else None)
        self._database = Database(loop, Random(plan.seed + 3), conditions.weather)
        self._database.on_commit = self._on_commit
        self._provider = Provider(Random(plan.seed + 4), conditions.trouble_rate, self._on_asked)
        self._servers = [
            Server(name, loop, self._provider, conditions, judge=self._judge, violate=self._violate)
            for name in SERVERS[: conditions.servers]
        ]
        self._acked: dict[str, dict[PacketKey, tuple[Packet, float]]] = defaultdict(dict)
        self._begun: list[tuple[Operation, Server]] = []  # the streams, and where their connections are
        self._written: dict[str, CallRow] = {}

    def run(self) -> Report:
        with simulated(self._plan.seed, self._loop, self._database) as complaints:
            try:
                self._loop.run(self._live())
            except Stuck as error:
                self._violate(str(error))
            if not self._violations:
                self._check_end(complaints)
            self._note("end", self._loop.steps)
            self._loop.close()
        return Report(self._violations, self._trace, self._counts)

    async def _live(self) -> None:
        plan, loop = self._plan, self._loop
        for server in self._servers:
            server.boot()
        for fault in plan.faults:
            loop.call_later(fault.at, self._strike, fault)
        by_sender: dict[int, list[Operation]] = defaultdict(list)
        for operation in plan.operations:
            by_sender[operation.sender].append(operation)
        senders = [
            loop.create_task(send_all(some, self._servers, self._violate)) for some in by_sender.values()
        ]
        over = loop.time() + max((fault.at + fault.seconds for fault in plan.faults), default=0.0)
        if senders and (await asyncio.wait(senders, timeout=_SENDING))[1]:
            self._violate("somebody has no answer")
        await asyncio.sleep(max(0.0, over - loop.time()))
        await self._heal()
        await self._finish()
        await self._send_again()
        for server in self._servers:
            server.stop()
        while not all(server.process.is_dead for server in self._servers):  # noqa: ASYNC110  # time is free
            await asyncio.sleep(0.1)

    async def _heal(self) -> None:
        """Let all servers run and the database be well, and end the vendors' connections."""
        self._note("healed")
        self._database.fates.clear()
        for server in self._servers:
            server.process.steps_left = None
        while not (self._loop.errors or all(server.is_open for server in self._servers)):
            for server in self._servers:
                server.boot()
            await asyncio.sleep(0.1)
        ends = [(replace(begin, deed=Deed.DROP, patience=1_000.0), server) for begin, server in self._begun]
        await asyncio.gather(*(self._insist(end, server=server) for end, server in ends))

    async def _finish(self) -> None:
        """Bring all calls to their end, those too that begin only now."""
        tables = self._database.tables
        ends_itself = self._plan.conditions.call_idle_timeout < _ENDING
        try:
            async with asyncio.timeout(_ENDING):
                while not all(row.has_ended for row in tables.calls.values()) or self._is_busy:
                    for row in list(tables.calls.values()):
                        if row.state == CallState.IN_PROGRESS and not ends_itself:
                            await self._insist(patient(Deed.COMPLETE, row.call_id))
                    await asyncio.sleep(0.2)
        except TimeoutError:
            self._violate(f"calls do not end: {[(row.call_id, row.state) for row in tables.calls.values()]}")

    def _is_calm(self) -> bool:
        """Whether no server can have been taken for dead so far."""
        return self._has_one_outage and not any(server.disturbed for server in self._servers)

    @property
    def _is_busy(self) -> bool:
        """Whether something is on its way to the database, be it for a sender who is gone."""
        return any(server.system.storage_lag for server in self._servers)

    async def _send_again(self) -> None:
        """Whoever has the calls now must know what was acknowledged."""
        for call_id, packets in self._acked.items():
            for packet, _ in list(packets.values())[-_SENT_AGAIN:]:
                answer = await self._insist(patient(Deed.SEND, call_id), packet)
                if isinstance(answer, Accepted) and not answer.is_duplicate:
                    self._violate(f"{call_id}: packet {packet.sequence}, acknowledged before, is new")

    async def _insist(self, operation: Operation, *packets: Packet, server: Server | None = None) -> object:
        """Ask *server*, or else one after the other, until there is an answer."""
        while True:
            chosen = server or self._rng.choice(self._servers)
            [(_, answer)] = await perform(operation, packets, chosen, self._violate)
            if not isinstance(answer, Unavailable | Lost):
                return answer
            await asyncio.sleep(0.1)

    def _strike(self, fault: Fault) -> None:
        server, database = self._servers[fault.server], self._database
        self._note("fault", str(fault.trouble), server.name, round(fault.seconds, 3))
        self._counts[fault.trouble] += 1
        match fault.trouble:
            case Trouble.CRASH:
                server.crash(fault.steps)
                self._loop.call_later(fault.seconds, server.boot)
            case Trouble.STOP:
                server.stop()
                self._loop.call_later(fault.seconds, server.boot)
            case Trouble.FREEZE:
                server.freeze(fault.seconds)
            case Trouble.STATEMENT:
                database.doom(server.name, fault.fate)
            case Trouble.OUTAGE:
                database.shut()
                self._loop.call_later(fault.seconds, database.open)
            case Trouble.LOCK:
                database.hold(fault.call_id, fault.seconds)

    def _on_asked(self, asked: Asked) -> None:
        self._note("asked", asked.server, asked.call_id, asked.generation, asked.attempt)
        for finding in check_asked(self._database.tables, asked, self._provider.asked[:-1]):
            self._violate(finding)

    def _on_commit(self, job: Job, rows: list[Record], written: list[CallRow]) -> None:
        process = job.connection.process
        told = [(row.call_id, row.epoch, row.version) for row in written]
        self._note(job.statement.name, process.name if process else "", *told)
        if job.statement.name == "flush":
            _, nos, epochs, *_ = job.arguments
            for finding in check_flush(self._database.tables, nos, epochs, rows[0]["fenced"] or ()):
                self._violate(finding)
        for row in written:
            if (before := self._written.get(row.call_id)) is not None:
                for finding in check_change(before, row, is_calm=self._is_calm):
                    self._violate(f"{row.call_id}: {finding}")
            self._written[row.call_id] = row

    def _judge(self, request: Request, answer: object) -> None:
        call_id = request.operation.call_id
        acked = self._acked[call_id]
        if request.operation.deed is Deed.BEGIN and request.server is not None:
            self._begun.append((request.operation, request.server))
        outcomes = pair(request.packets, answer)
        for finding in check_answer(self._database.tables, request, answer, outcomes):
            self._violate(f"{call_id}: {finding}")
        if isinstance(answer, UnknownCall):
            for finding in check_unknown(request, min((at for _, at in acked.values()), default=inf)):
                self._violate(f"{call_id}: {finding}")
        for packet, outcome in outcomes:
            if isinstance(outcome, Accepted):
                acked.setdefault((packet.stream, packet.sequence), (packet, self._loop.time()))
        said = [type(one).__name__ for one in (answer if isinstance(answer, list) else [answer])]
        for name in said:
            self._counts[name] += 1
        keys = [(packet.stream, packet.sequence) for packet in request.packets]
        self._note("answer", str(request.operation.deed), call_id, *keys, *said)

    def _note(self, *what: Any) -> None:
        self._trace.append((int(self._loop.time() * 1e6), *what))

    def _violate(self, finding: str) -> None:
        self._violations.append(finding)
        self._note("VIOLATED", finding)
        self._loop.is_interrupted = True

    def _check_end(self, complaints: Complaints) -> None:
        tables = self._database.tables
        disturbed = sum(server.disturbed for server in self._servers)
        is_unclear = self._plan.has_poison or not self._has_one_outage
        for row in tables.calls.values():
            asked = [one for one in self._provider.asked if one.call_id == row.call_id]
            for finding in check_call(tables, row, asked, inf if is_unclear else disturbed):
                self._violate(finding)
        for record in complaints.records:
            error = record.exc_info and record.exc_info[1]
            if record.levelno == logging.CRITICAL or (error and not isinstance(error, Fatal)):
                self._violate(f"it is logged: {record.getMessage()}: {error!r}")
        for context in self._loop.errors:
            self._violate(f"a callback failed: {context}")
