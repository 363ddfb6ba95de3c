"""The load: `python -m tests.benchmarks.load PLAN` sends packets as cheaply as it can and prints a Result.

It knows just enough HTTP/1.1 for the servers it is meant for: keep-alive, and answers with a Content-Length.
"""

import gc
import itertools
import json
import math
import os
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from tests.benchmarks.machine import Reading

DATA = "8" * 216  # as long as 20 ms of G.711 in base64
WARM_UP = 0.5
_PATIENCE = 15.0
_ACCEPTED = b"202"

# Blanks in front of the sequence keep the length of the body the same.
_BODY = f'{{"sequence":%12d,"data":"{DATA}","timestamp":1700000000.25}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send to the server *pid* at *port*.

    With a *rate* packets are due at equal distances and their latency counts from then (an open loop);
    without one each connection sends as soon as it has its answer. Each connection has calls of its own,
    whose packets come in order; or every packet is the first of a new call; or, with a number of *streams*,
    all connections send to these streams of one call. A packet that is refused is sent again when the
    connection's next one is due. Where the kernel lets it, a load that *goes_first* has its core whenever it
    wants it, so that what others do there is not measured as the server's. One that *tells_calls*, of which
    each connection has one, tells of each how many packets were accepted: its first ones.
    """

    port: int
    pid: int
    prefix: str
    seconds: float
    rate: float | None = None
    connections: int = 128
    calls: int = 200
    are_calls_new: bool = False
    streams: int = 0
    warm_up: float = WARM_UP
    goes_first: bool = False
    tells_calls: bool = False

    def __post_init__(self) -> None:
        if self.tells_calls and (self.calls != self.connections or self.are_calls_new or self.streams):
            raise ValueError("there must be one call for each connection")
        if not self.are_calls_new and self.calls < self.connections:
            raise ValueError("there must be a call for each connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of it: `accepted` and `others` count everything, the rest is about the measured seconds.

    p50 and p99 in ms, cpu_per_202 in microseconds of the server process; busy, waiting, client_busy and
    client_waiting are shares of the wall time. p50, p99 and rate are those of 202s, what is called refused is
    of all others, whose time counts from when they were sent.
    """

    accepted: int
    others: dict[str, int]
    rate: float
    p50: float
    p99: float
    busy: float
    waiting: float
    cpu_per_202: float
    client_busy: float
    client_waiting: float
    refused_rate: float
    refused_p50: float
    refused_p99: float
    accepted_by_call: dict[str, int] = field(default_factory=dict)


class _Connection:
    __slots__ = ("_request", "_requests", "_rest", "accepted", "due", "sent", "socket", "was_refused")

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = self.sent = 0.0
        self.was_refused = False
        self.accepted = 0
        self._requests = requests
        self._request = b""
        self._rest = b""

    def send(self, due: float, now: float) -> None:
        self.due, self.sent = due, now
        if not self.was_refused:
            self._request = next(self._requests)
        self.socket.sendall(self._request)

    def receive(self) -> bytes | None:
        """Return the status of the answer, and what a refusal lacks; None if the answer is not whole yet."""
        read = self.socket.recv(65_536)
        if not read:
            raise ConnectionError("the server has closed a connection")
        data = self._rest + read
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _content_length(data):
            self._rest = data
            return None
        self._rest = b""
        status = data[9:12]
        self.was_refused = status != _ACCEPTED
        if self.was_refused and b"\r\nRetry-After: " not in data[:head]:
            return status + b" without Retry-After"
        return status


class Load:
    """All connections, in one loop over epoll: asyncio's would cost more than all that is done here."""

    def __init__(self, plan: Plan) -> None:
        self._connections: dict[int, _Connection] = {}
        self._epoll = select.epoll()
        for requests in _all_requests(plan):
            connection = _Connection(plan.port, requests)
            self._connections[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket, select.EPOLLIN)
        self._free = deque(self._connections.values())
        self._interval = 1 / plan.rate if plan.rate else 0.0
        self._next_due = time.perf_counter() if plan.rate else 0.0  # 0 is always due
        self.statuses: Counter[bytes] = Counter()
        self.latencies: list[float] = []
        self.refusals: list[float] = []

    def run(self, seconds: float) -> None:
        """Send and receive for *seconds*."""
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            self._send(now)
            self._receive(until)

    def drain(self) -> None:
        """Send nothing more, and wait for every answer."""
        self._next_due = math.inf
        until = time.perf_counter() + _PATIENCE
        while len(self._free) < len(self._connections):
            if time.perf_counter() > until:
                raise TimeoutError("not every packet was answered")
            self._receive(until)

    def counts(self) -> tuple[int, dict[str, int]]:
        """Return how many packets were accepted, and how many got which other answer."""
        others = {status.decode(): count for status, count in self.statuses.items() if status != _ACCEPTED}
        return self.statuses[_ACCEPTED], others

    def accepted(self) -> list[int]:
        """Return how many packets of each connection were accepted."""
        return [connection.accepted for connection in self._connections.values()]

    def _send(self, now: float) -> None:
        while self._free and self._next_due <= now:
            self._free.popleft().send(self._next_due or now, now)
            self._next_due += self._interval

    def _receive(self, until: float) -> None:
        wake = min(self._next_due, until) if self._free else until
        select.select([self._epoll], [], [], max(wake - time.perf_counter(), 0))  # epoll itself counts in ms
        for number, _ in self._epoll.poll(0):
            connection = self._connections[number]
            status = connection.receive()
            if status is None:
                continue
            now = time.perf_counter()
            self.statuses[status] += 1
            if connection.was_refused:
                self.refusals.append(now - connection.sent)
            else:
                connection.accepted += 1
                self.latencies.append(now - connection.due)
            self._free.append(connection)
            self._send(now)


def measure(plan: Plan) -> Result:
    """Carry *plan* out."""
    load = Load(plan)
    load.run(plan.warm_up)
    load.latencies, load.refusals = [], []
    before = Reading.take(plan.pid)
    load.run(plan.seconds)
    after = Reading.take(plan.pid)
    latencies, refusals = sorted(load.latencies), sorted(load.refusals)
    load.drain()
    wall, cpu, count = after.at - before.at, after.cpu - before.cpu, len(latencies)
    accepted, others = load.counts()
    calls = enumerate(load.accepted()) if plan.tells_calls else ()
    return Result(
        accepted=accepted,
        others=others,
        rate=count / wall,
        p50=percentile(latencies, 0.50) * 1e3,
        p99=percentile(latencies, 0.99) * 1e3,
        busy=cpu / wall,
        waiting=(after.waiting - before.waiting) / wall,
        cpu_per_202=cpu / max(count, 1) * 1e6,
        client_busy=(after.own_cpu - before.own_cpu) / wall,
        client_waiting=(after.own_waiting - before.own_waiting) / wall,
        refused_rate=len(refusals) / wall,
        refused_p50=percentile(refusals, 0.50) * 1e3,
        refused_p99=percentile(refusals, 0.99) * 1e3,
        accepted_by_call={f"{plan.prefix}-{number}": count for number, count in calls},
    )


def _all_requests(plan: Plan) -> list[Iterator[bytes]]:
    """Return what each connection sends; those that share a stream share its sequences."""
    if not plan.streams:
        return [_requests(plan, number) for number in range(plan.connections)]
    streams = [_stream_requests(plan, number) for number in range(plan.streams)]
    return [streams[number % plan.streams] for number in range(plan.connections)]


def _stream_requests(plan: Plan, stream: int) -> Iterator[bytes]:
    form = _form(plan.prefix, f'{_BODY[:-1]},"stream":"{stream}"}}')
    return (form % sequence for sequence in itertools.count(1))


def _requests(plan: Plan, connection: int) -> Iterator[bytes]:
    """Yield what the connection of that number sends."""
    if plan.are_calls_new:
        form = _form(f"{plan.prefix}-%09d")
        for number in itertools.count(connection, plan.connections):
            yield form % (number, 1)
    call_ids = [f"{plan.prefix}-{number}" for number in range(connection, plan.calls, plan.connections)]
    forms = [_form(call_id) for call_id in call_ids]
    for sequence in itertools.count(1):
        for form in forms:
            yield form % sequence


def _form(call_id: str, body: str = _BODY) -> bytes:
    head = (
        f"POST /v1/call/stream/{call_id} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body % 0)}\r\n\r\n"
    )
    return (head + body).encode()


def _content_length(data: bytes) -> int:
    at = data.index(b"Content-Length: ") + 16
    return int(data[at : data.index(b"\r\n", at)])


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which *share* of *ordered* lies; 0 if there is none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and a pause would be counted as the server's
    the_plan = Plan(**json.loads(sys.argv[1]))
    if the_plan.goes_first:
        with suppress(PermissionError):
            priority = os.sched_getparam(0).sched_priority + 1  # others have one under `chrt --rr`
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    print(json.dumps(asdict(measure(the_plan))))
