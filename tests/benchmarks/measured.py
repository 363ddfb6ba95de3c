"""`python -m tests.benchmarks.measured serve ...`: `callactors serve` with instruments in it.

SIGUSR1 lets the instruments begin anew, SIGUSR2 appends what they show, a line of JSON, to the file that
MEASURED_REPORT names.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeAlias

from aiohttp import WSMessage

from callactors import cli, serve
from callactors.errors import Unavailable
from callactors.facts import Accepted
from callactors.messages import FromVendor
from callactors.packets import Packet
from callactors.settings import Settings
from callactors.web import media
from callactors.web.media import _MediaSocket
from tests.benchmarks.histogram import Histogram

_LAG_INTERVAL: Final = 0.01
_PATIENCE: Final = 15.0
_POLL_INTERVAL: Final = 0.2

_Run: TypeAlias = Callable[[Settings, socket.socket], Coroutine[Any, Any, None]]


class Instruments:
    """What is measured in the server.

    `acks` are the times from when a message came to the handler of its socket until it was known that its
    packet is committed; of messages that are asked about together, all have the time of the first. `lags` are
    by how much the loop was late for something that was due each 10 ms. `unstored` counts packets that could
    not be stored at once, or not at all; their times are not among the acks.
    """

    def __init__(self) -> None:
        self.acks = Histogram()
        self.lags = Histogram()
        self.unstored = 0

    def begin(self) -> None:
        """Forget what was seen."""
        self.acks.clear()
        self.lags.clear()
        self.unstored = 0

    def report(self, path: Path) -> None:
        """Append a line to the file at *path*."""
        line = {
            "acks": self.acks.read().to_json(),
            "lags": self.lags.read().to_json(),
            "unstored": self.unstored,
        }
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    async def sample_lag(self) -> None:
        """Look for ever how late the loop is."""
        while True:
            due = perf_counter() + _LAG_INTERVAL
            await asyncio.sleep(_LAG_INTERVAL)
            self.lags.add(max(perf_counter() - due, 0.0))

    def on_reply(self, since: float, packets: Sequence[Packet], reply: "Future[Any]") -> None:
        """Count *packets*, of which *reply* tells."""
        is_answered = not reply.cancelled() and reply.exception() is None
        answer = reply.result() if is_answered else ()
        stored = sum([outcome.packets for outcome in answer if isinstance(outcome, Accepted)])
        self.acks.add(perf_counter() - since, stored)
        self.unstored += len(packets) - stored


async def read_report(path: Path, lines: int) -> list[dict[str, Any]]:
    """Return what the server has told in the file at *path*, when it has told so many *lines*."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            told = path.read_text().splitlines()
            if len(told) >= lines:
                return [json.loads(line) for line in told]
            await asyncio.sleep(_POLL_INTERVAL)


def main() -> int:
    """Build the instruments in and run the command."""
    instruments, path = Instruments(), Path(os.environ["MEASURED_REPORT"])
    _replace(media, "_MediaSocket", lambda _: _measured_socket(instruments))
    _replace(serve, "_run", partial(_equip, instruments, path))
    return cli.main(sys.argv[1:])


def _replace(owner: object, attribute: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, attribute, make(getattr(owner, attribute)))


def _measured_socket(instruments: Instruments) -> type[_MediaSocket]:
    class MeasuredSocket(_MediaSocket):
        _since = 0.0

        def _read(self, message: WSMessage) -> None:
            if not self._together:
                self._since = perf_counter()
            super()._read(message)

        def _start(self, what: Sequence[Packet] | FromVendor) -> "Future[Any]":
            if isinstance(what, FromVendor):
                return super()._start(what)
            try:
                reply = super()._start(what)
            except Unavailable:
                instruments.unstored += len(what)
                raise
            reply.add_done_callback(partial(instruments.on_reply, self._since, what))
            return reply

    return MeasuredSocket


def _equip(instruments: Instruments, path: Path, run: _Run) -> _Run:
    async def wrapped(settings: Settings, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, instruments.begin)
        loop.add_signal_handler(signal.SIGUSR2, instruments.report, path)
        async with _sampling(instruments):
            await run(settings, listener)

    return wrapped


@asynccontextmanager
async def _sampling(instruments: Instruments) -> AsyncIterator[None]:
    sampling = asyncio.create_task(instruments.sample_lag(), name="lag")
    try:
        yield
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
