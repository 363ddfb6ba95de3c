"""What a simulated server has in place of the world: clock, database, log, and parts that do nothing here."""

import asyncio
import logging
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any, Final

import asyncpg

from callactors import system
from tests.simulation.connection import SimulatedPool, connect
from tests.simulation.database import Database
from tests.simulation.loop import VirtualLoop

_AT_START: Final = ("wait_for_database", "check_durability", "migrate", "identify")
_ABSENT: Final = ("Feed", "Eraser", "Deliveries", "KeyRing", "LoopLag")


class _Absent:
    """A part of a server that no call's fate depends on."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

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


async def _nothing(*_: object, **__: object) -> None:
    pass


@contextmanager
def simulated(seed: int, loop: VirtualLoop, database: Database) -> Iterator[Complaints]:
    """Let callactors have the clock of *loop*, chance from *seed*, and *database* as its only one."""

    async def create_pool(*_: object, **__: object) -> SimulatedPool:
        return SimulatedPool(database)

    complaints, log = Complaints(), logging.getLogger("callactors")
    with ExitStack() as stack:

        def put(owner: Any, name: str, value: object) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        stack.callback(random.setstate, random.getstate())
        random.seed(seed)
        for module in _find_timed():
            put(module, "monotonic", loop.time)
        put(asyncpg, "connect", partial(connect, database))
        put(asyncpg, "create_pool", create_pool)
        for name in _AT_START:
            put(system, name, _nothing)
        for name in _ABSENT:
            put(system, name, _Absent)
        put(log, "propagate", False)
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)
        stack.callback(log.removeHandler, complaints)
        log.addHandler(complaints)
        yield complaints


@cache
def _find_timed() -> list[Any]:
    """Return the modules that read the monotonic clock."""
    modules = [module for name, module in sys.modules.items() if name.startswith("callactors.")]
    return [module for module in modules if getattr(module, "monotonic", None) is time.monotonic]
