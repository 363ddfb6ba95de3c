"""What a simulated server has in place of the world: clock, database, log, and parts that do nothing here."""

import asyncio
import logging
import random
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Final

import asyncpg

from callactors import system
from callactors.actors.deadlines import Deadlines
from tests.simulation.connection import SimulatedPool, connect
from tests.simulation.database import Database
from tests.simulation.loop import VirtualLoop

_AT_START: Final = ("wait_for_database", "check_durability", "migrate", "identify")
_RUNNING_LOOP: Final = (  # on Python 3.11 each of them costs a system call
    (asyncio, "get_running_loop"), (asyncio.events, "get_running_loop"), (asyncio.events, "_get_running_loop")
)  # fmt: skip
_ABSENT: Final = ("Feed", "Eraser", "Retention", "Deliveries", "KeyRing", "LoopLag")


class _Absent:
    """A part of a server that no call's fate depends on."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def run(self) -> None:
        pass

    watch = run

    async def load(self) -> None:
        pass

    open = load

    def close(self) -> None:
        pass

    def poke(self) -> None:
        pass

    def tell_step(self, state: str) -> None:
        pass


class Complaints(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


_SERVE: Final = system.CallSystem._serve


def _serve(self: system.CallSystem, service: Coroutine[Any, Any, None] | None, name: str) -> None:
    """Spare the task of a part that is absent."""
    if service is not None:
        _SERVE(self, service, name)


def _leave_waiting(_: Deadlines) -> None:
    """Answer nobody at the stop: it is for who waits for another server, and would hide who is forgotten."""


async def _nothing(*_: object, **__: object) -> None:
    pass


@contextmanager
def simulated(seed: int, loop: VirtualLoop, database: Database) -> Iterator[Complaints]:
    """Let callactors have the clock of *loop*, chance from *seed*, and *database* as its only one."""

    async def create_pool(*_: object, **__: object) -> SimulatedPool:
        return SimulatedPool(database)

    complaints, log, state = Complaints(), logging.getLogger("callactors"), random.getstate()
    level = log.level
    replaced = _replace([
        *((module, "monotonic", loop.time) for module in _find_timed()),
        *((owner, name, lambda: loop) for owner, name in _RUNNING_LOOP),
        *((system, name, _nothing) for name in _AT_START),
        *((system, name, _Absent) for name in _ABSENT),
        (system.CallSystem, "_serve", _serve),
        (Deadlines, "close", _leave_waiting),
        (asyncpg, "connect", partial(connect, database)),
        (asyncpg, "create_pool", create_pool),
        (log, "propagate", False),
    ])  # fmt: skip
    random.seed(seed)
    log.setLevel(logging.ERROR)
    log.addHandler(complaints)
    try:
        yield complaints
    finally:
        log.removeHandler(complaints)
        log.setLevel(level)
        random.setstate(state)
        _replace(replaced)


def _replace(values: list[tuple[Any, str, object]]) -> list[tuple[Any, str, object]]:
    """Give what is named its new value, and return the old ones."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in values]
    for owner, name, value in values:
        setattr(owner, name, value)
    return before


@cache
def _find_timed() -> list[Any]:
    """Return the modules that read the monotonic clock."""
    modules = [module for name, module in sys.modules.items() if name.startswith("callactors.")]
    return [module for module in modules if getattr(module, "monotonic", None) is time.monotonic]
