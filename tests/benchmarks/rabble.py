"""Hostile clients: `python -m tests.benchmarks.rabble PLAN` prints `at work`, and the Deeds of each kind.

They work until stdin ends, as fast as the server lets them and the share of a core that they may use. The
kind that has used the least of it goes first.
"""

import errno
import heapq
import itertools
import json
import math
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.benchmarks.mischief import KINDS, Kind, Script, Step, Wait
from tests.benchmarks.throttle import Throttle

_STEPS: Final = 16  # turns between two looks at the clock and at what has come
_NICE: Final = 19
_LONGEST_WAIT: Final = 0.1
_BUFFER: Final = 64 * 1024
_UNREAD: Final = 4 * 1024  # bytes that the kernel keeps for who does not read
_RESET: Final = struct.pack("ii", 1, 0)  # then close() sends RST: SO_LINGER in socket(7)
_GONE: Final = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_ANSWER: Final = b"HTTP/1.1 "


@dataclass(frozen=True, slots=True, kw_only=True)
class RabblePlan:
    """Let the *kinds* loose on *port*, with *share* of one core; *seed* is that of their choices."""

    port: int
    kinds: Sequence[str]
    share: float
    seed: int = 1


@dataclass(slots=True, kw_only=True)
class Deeds:
    """What one kind did: *sent* are requests or frames, or drips; *cut* connections ended by the server."""

    connections: int = 0
    cut: int = 0
    sent: int = 0
    size: int = 0
    cpu: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Told:
    """The Deeds of each kind in *seconds*, for which *cpu* seconds were used."""

    deeds: dict[str, Deeds]
    seconds: float
    cpu: float


class _Client:
    """One connection after the other, and where it is in its script."""

    __slots__ = ("crew", "due", "rest", "script", "socket", "steps", "wait")

    def __init__(self, crew: "_Crew", script: Script) -> None:
        self.crew = crew
        self.script = script
        self.steps: Iterator[Step] = iter(())
        self.socket: socket.socket | None = None
        self.rest = memoryview(b"")
        self.wait: Wait | None = None
        self.due: float | None = None

    @property
    def is_free(self) -> bool:
        """Whether it can take its next step."""
        return not self.rest and self.wait is None and self.due is None


class _Crew:
    """All clients of one kind, and what those of them have seen that can go on."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.deeds = Deeds()
        scripts = itertools.cycle(kind.scripts)
        self.ready = deque((_Client(self, next(scripts)), 0) for _ in range(kind.clients))


class Rabble:
    """All crews, in one loop over epoll."""

    def __init__(self, plan: RabblePlan) -> None:
        self._address = ("127.0.0.1", plan.port)
        self._rng = Random(plan.seed)
        self._crews = {name: _Crew(KINDS[name]) for name in plan.kinds}
        self._epoll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._sleeping: list[tuple[float, int, _Client]] = []
        self._numbers = itertools.count()
        self._throttle = Throttle(plan.share, time.perf_counter(), time.process_time())

    def run(self, stop: int) -> Told:
        """Work until something can be read from the file *stop*."""
        begin, cpu, is_told = time.perf_counter(), time.process_time(), False
        self._epoll.register(stop, select.EPOLLIN)
        while self._look(stop):
            for _ in range(_STEPS):
                if not self._take_turn():
                    break
            if not is_told and all(crew.deeds.connections for crew in self._crews.values()):
                is_told = True
                print("at work", flush=True)
        return Told(
            deeds={name: crew.deeds for name, crew in self._crews.items()},
            seconds=time.perf_counter() - begin,
            cpu=time.process_time() - cpu,
        )

    def _look(self, stop: int) -> bool:
        """Wait as long as must be, and see who can go on; return whether to."""
        if pause := self._throttle.pause(time.perf_counter(), time.process_time()):
            time.sleep(pause)
        now = time.perf_counter()
        while self._sleeping and self._sleeping[0][0] <= now:
            due, _, client = heapq.heappop(self._sleeping)
            if client.due == due:
                client.due = None
                client.crew.ready.append((client, 0))
        for number, mask in self._epoll.poll(self._until_next(now)):
            if number == stop:
                return False
            client = self._clients[number]
            client.crew.ready.append((client, mask))
        return True

    def _until_next(self, now: float) -> float:
        if any(crew.ready for crew in self._crews.values()):
            return 0.0
        return min(max(self._sleeping[0][0] - now, 0.0) if self._sleeping else math.inf, _LONGEST_WAIT)

    def _take_turn(self) -> bool:
        """Let a client go on, of the kind that has used the least; return whether there was one."""
        crews = [crew for crew in self._crews.values() if crew.ready]
        if not crews:
            return False
        crew = min(crews, key=lambda crew: crew.deeds.cpu)
        client, mask = crew.ready.popleft()
        begin = time.process_time()
        try:
            self._go_on(client, mask)
        except OSError:
            crew.deeds.cut += 1
            self._reset(client)
        crew.deeds.cpu += time.process_time() - begin
        return True

    def _go_on(self, client: _Client, mask: int) -> None:
        """Do what *client* has to do next, and have it told when it can do more."""
        made = client.socket or self._connect(client)
        if mask:
            self._see(client, made, mask)
        if client.is_free:
            self._step(client, made)
        if client.socket is None:
            return
        if client.is_free:
            client.crew.ready.append((client, 0))
        else:
            events = select.EPOLLIN if client.crew.kind.is_reading else select.EPOLLRDHUP
            writing = select.EPOLLOUT if client.rest else 0
            self._epoll.modify(made, events | writing | select.EPOLLONESHOT)

    def _connect(self, client: _Client) -> socket.socket:
        made = socket.socket()
        if not client.crew.kind.is_reading:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UNREAD)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        made.setblocking(False)
        client.socket, client.steps = made, client.script(self._rng)
        self._clients[made.fileno()] = client
        client.crew.deeds.connections += 1
        if (number := made.connect_ex(self._address)) not in (0, errno.EINPROGRESS):
            raise OSError(number, "the connection was not taken")
        self._epoll.register(made, select.EPOLLONESHOT)
        return made

    def _see(self, client: _Client, made: socket.socket, mask: int) -> None:
        """Read what has come, and send what could not be sent."""
        if client.crew.kind.is_reading and mask & ~select.EPOLLOUT:
            self._read(client, made)
        elif mask & _GONE:
            raise ConnectionResetError
        if client.rest:
            self._send(client, made)

    def _read(self, client: _Client, made: socket.socket) -> None:
        try:
            data = made.recv(_BUFFER)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError
        if client.wait is Wait.ANSWER:
            client.wait = None
        if (at := data.find(_ANSWER)) >= 0:
            status, answers = data[at + 9 : at + 12].decode(), client.crew.deeds.answers
            answers[status] = answers.get(status, 0) + data.count(_ANSWER)

    def _step(self, client: _Client, made: socket.socket) -> None:
        step = next(client.steps, None)
        if step is None:
            self._reset(client)
        elif isinstance(step, Wait):
            client.wait = step
        elif isinstance(step, float):
            client.due = time.perf_counter() + step
            heapq.heappush(self._sleeping, (client.due, next(self._numbers), client))
        else:
            client.rest = memoryview(step)
            client.crew.deeds.sent += client.crew.kind.together
            self._send(client, made)

    def _send(self, client: _Client, made: socket.socket) -> None:
        try:
            size = made.send(client.rest)
        except BlockingIOError:
            return
        client.rest = client.rest[size:]
        client.crew.deeds.size += size

    def _reset(self, client: _Client) -> None:
        """End the connection; the next one is due."""
        if client.socket is not None:
            del self._clients[client.socket.fileno()]
            client.socket.close()
        client.socket, client.rest, client.wait, client.due = None, memoryview(b""), None, None
        client.crew.ready.append((client, 0))


def give_way() -> None:
    """Leave the core to the database: who attacks has machines of their own."""
    if os.sched_getparam(0).sched_priority > 1:  # under `chrt --rr`
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    else:
        os.nice(_NICE)
        with suppress(OSError):  # where sessions share a core, and each of PostgreSQL's processes is one
            os.setsid()
            Path("/proc/self/autogroup").write_text(str(_NICE))


if __name__ == "__main__":
    give_way()
    rabble = Rabble(RabblePlan(**json.loads(sys.argv[1])))
    print(json.dumps(asdict(rabble.run(sys.stdin.fileno()))))
