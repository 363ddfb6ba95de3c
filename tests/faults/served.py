"""`python -m tests.faults.served serve ...`: the server as `callactors serve` runs it, with faults built in.

It replaces attributes of the product's modules, which is done here alone: this process exists to break. What
is built in is said by environment variables:

FAULTS_PROVIDER   the AI step asks the provider at this URL
FAULTS_FAILPOINT  name:n, the process ends with EXIT_CODE at the n-th pass (from 1) of this one of FAILPOINTS
FAULTS_POISON     a packet whose data is exactly this text makes its actor fail
FAULTS_STALL      for how many seconds SIGUSR1 stalls the loop (1)
FAULTS_REPORT     the file to which SIGUSR2 appends a line of JSON: see `_Reporter`
"""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeAlias

import asyncpg
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from callactors import ai_step, app, cli, serve
from callactors.call import Call
from callactors.feed import Feed
from callactors.packets import Packet
from callactors.processors.contract import CallRecord, Processor
from callactors.retry import Done, Outcome, Retry
from callactors.settings import Settings
from callactors.store import journal
from callactors.store.claims import Claims
from callactors.store.snapshot import Snapshot

EXIT_CODE: Final = 137

_LAG_INTERVAL: Final = 0.05
_LAGS_KEPT: Final = 20_000

_Function: TypeAlias = Callable[..., Any]
_Pass: TypeAlias = Callable[[], None]


def _before(function: _Function, passed: _Pass) -> _Function:
    def wrapped(*arguments: Any) -> Any:
        passed()
        return function(*arguments)

    return wrapped


def _after(function: _Function, passed: _Pass) -> _Function:
    async def wrapped(*arguments: Any) -> Any:
        outcome = await function(*arguments)
        passed()
        return outcome

    return wrapped


def _before_page(function: _Function, passed: _Pass) -> _Function:
    """The feed publishes an empty page whenever it finds nothing new: that is no pass."""

    def wrapped(feed: Feed, page: Sequence[Any]) -> None:
        if page:
            passed()
        function(feed, page)

    return wrapped


def _after_page(function: _Function, passed: _Pass) -> _Function:
    def wrapped(feed: Feed, page: Sequence[Any]) -> None:
        function(feed, page)
        if page:
            passed()

    return wrapped


def _between_parts(function: _Function, passed: _Pass) -> _Function:
    async def wrapped(*arguments: Any) -> AsyncIterator[Any]:
        async for part in function(*arguments):
            yield part
            if part.next is not None:
                passed()

    return wrapped


class _Place(NamedTuple):
    owner: object
    attribute: str
    wrap: Callable[[_Function, _Pass], _Function]


_PLACES: Final = {
    "before_claim": _Place(Claims, "_claim", _before),
    "after_claim": _Place(Claims, "_claim", _after),
    "before_flush": _Place(journal, "flush", _before),
    "after_flush": _Place(journal, "flush", _after),
    "before_publish": _Place(Feed, "_publish", _before_page),
    "after_publish": _Place(Feed, "_publish", _after_page),
    "before_ai": _Place(ai_step, "run_attempt", _before),
    "after_ai": _Place(ai_step, "run_attempt", _after),
    "mid_snapshot": _Place(Snapshot, "parts", _between_parts),
}
FAILPOINTS: Final = frozenset(_PLACES)


def main() -> int:
    """Build the faults in and run the command."""
    failpoint, poison = os.environ.get("FAULTS_FAILPOINT"), os.environ.get("FAULTS_POISON")
    if failpoint is not None:
        _install(*failpoint.split(":"))
    if poison is not None:
        _wrap(Call, "accept", partial(_refuse_packet, poison))
        _wrap(Call, "accept_run", partial(_refuse_run, poison))
    _wrap(serve, "_run", _equip)
    return cli.main(sys.argv[1:])


def _wrap(owner: object, attribute: str, wrap: Callable[[_Function], _Function]) -> None:
    setattr(owner, attribute, wrap(getattr(owner, attribute)))


def _install(name: str, n: str) -> None:
    place, passed = _PLACES[name], _count_down(int(n))
    _wrap(place.owner, place.attribute, lambda function: place.wrap(function, passed))


def _count_down(n: int) -> _Pass:
    left = n

    def passed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(EXIT_CODE)

    return passed


def _refuse_packet(poison: str, accept: _Function) -> _Function:
    def wrapped(call: Call, packet: Packet) -> Any:
        _check(packet, poison)
        return accept(call, packet)

    return wrapped


def _refuse_run(poison: str, accept_run: _Function) -> _Function:
    def wrapped(call: Call, packets: Sequence[Packet]) -> Any:
        decided = accept_run(call, packets)
        for packet in decided[0].packets if decided else ():
            _check(packet, poison)
        return decided

    return wrapped


def _check(packet: Packet, poison: str) -> None:
    if packet.data == poison:
        raise RuntimeError("this packet is poison")


def _equip(run: Callable[[Settings, socket.socket], Coroutine[Any, Any, None]]) -> _Function:
    """Set up what needs the loop for as long as *run* runs."""

    async def wrapped(settings: Settings, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        stall = float(os.environ.get("FAULTS_STALL", "1"))
        loop.add_signal_handler(signal.SIGUSR1, time.sleep, stall)
        async with AsyncExitStack() as stack:
            if url := os.environ.get("FAULTS_PROVIDER"):
                connector = TCPConnector(limit=0, force_close=True)  # what is kept open looks like a leak
                session = ClientSession(connector=connector, timeout=ClientTimeout())
                processor = _make_processor(await stack.enter_async_context(session), url)
                _wrap(app, "open_processor", lambda _open: lambda _settings: nullcontext(processor))
            if path := os.environ.get("FAULTS_REPORT"):
                reporter = await stack.enter_async_context(_Reporter(Path(path)))
                loop.add_signal_handler(signal.SIGUSR2, reporter.report)
            await run(settings, listener)

    return wrapped


def _make_processor(session: ClientSession, url: str) -> Processor:
    async def ask(call: CallRecord) -> Outcome:
        told = {
            "call_id": call.call_id,
            "generation": call.generation,
            "attempt": call.attempt,
            "packets": call.packet_count,
        }
        headers = {"Idempotency-Key": call.idempotency_key}
        try:
            async with session.post(url, json=told, headers=headers) as response:
                if response.status != 200:
                    return Retry(f"the provider answered {response.status}")
                answer = await response.json()
        except ClientError as error:
            return Retry(f"the provider cannot be asked: {type(error).__name__}")
        return Done({"token": answer["token"], "packets": call.packet_count})

    return ask


class _Reporter:
    """Tells of this process what nobody outside can see, in one line of JSON a report.

    `tasks` and `files` are how many there are, its own task among them, without the files of connections to
    the database; `blocks` are those that Python has allocated; `lag` and `lag_p99` are by how many seconds
    the loop was late since the last report.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lags: deque[float] = deque(maxlen=_LAGS_KEPT)
        self._largest = 0.0
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()

    async def __aenter__(self) -> Self:
        self._measuring = asyncio.create_task(self._measure(), name="lag")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._measuring.cancel()
        await asyncio.gather(self._measuring, return_exceptions=True)

    def report(self) -> None:
        """Write a line, and count what comes later for the next one."""
        self._count()  # a stall that has just ended: the task has yet to wake
        line = {
            "tasks": len(asyncio.all_tasks()),
            "files": len([*Path("/proc/self/fd").iterdir()]) - 1 - _count_connections(),  # 1: the directory
            "blocks": sys.getallocatedblocks(),
            "lag": self._largest,
            "lag_p99": sorted(self._lags)[len(self._lags) * 99 // 100],
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._lags.clear()
        self._largest = 0.0

    async def _measure(self) -> None:
        while True:
            self._due = self._loop.time() + _LAG_INTERVAL
            await asyncio.sleep(_LAG_INTERVAL)
            self._count()

    def _count(self) -> None:
        """Count how late it is; what is late once more is late from now on."""
        now = self._loop.time()
        lag = max(0.0, now - self._due)
        self._due = max(self._due, now)
        self._lags.append(lag)
        self._largest = max(self._largest, lag)


def _count_connections() -> int:
    """Return how many connections to the database are open."""
    # Not isinstance: a pool's proxy, which it calls a connection too, cannot be asked once it is given back.
    found = [thing for thing in gc.get_objects() if type(thing) is asyncpg.Connection]
    return sum(not connection.is_closed() for connection in found)


if __name__ == "__main__":
    sys.exit(main())
