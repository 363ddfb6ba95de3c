"""An event loop of virtual time, in which processes run side by side, freeze, and die between two steps."""

import asyncio
from asyncio import Future, Handle, Task, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final

PROCESS: Final[ContextVar["Process | None"]] = ContextVar("process", default=None)
"""Whose step runs; inherited by all that it begins, as a context is."""

_BEGINNING: Final = 1_000.0  # as a machine that has been up for a while
_MOST_STEPS: Final = 200_000
_WINDOW: Final = 4  # how far ahead of its turn a step may come


class Stuck(Exception):
    """The simulation cannot come to its end; the text says why."""


class Process:
    """One process of a simulated machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.steps_left: int | None = None
        """After how many more of its steps it dies, if it does."""
        self.on_death: Callable[[], None] = lambda: None
        self.held_back: list[Handle] | None = None
        """What it would do if it were not frozen; None if it is not."""

    def die(self) -> None:
        """Lose everything between two steps, as by kill -9."""
        if not self.is_dead:
            self.is_dead = True
            self.held_back = None
            self.on_death()

    def takes(self, handle: Handle) -> bool:
        """Whether *handle* is to run now."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.die()
        if self.held_back is not None:
            self.held_back.append(handle)
            return False
        return not self.is_dead


class SimulatedTask(Task[Any]):
    """A task whose place in a set depends on when it was made, not on where it lies in memory."""

    __slots__ = ("_number", "process")
    _made = count()

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], loop: "VirtualLoop", name: str, context: Context | None
    ) -> None:
        self._number = next(self._made)
        self.process = PROCESS.get()
        super().__init__(coroutine, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number


class _Step(TimerHandle):
    """Something to be run: a handle as asyncio's, at half the cost, for a loop that is never debugged."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None, when: float = 0.0
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = copy_context() if context is None else context
        self._when = when
        self._cancelled = False

    def cancel(self) -> None:
        """Run it no more."""
        self._cancelled = True
        self._args = ()


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs what is ready, and when nothing is, lets the clock jump to the next timer.

    With *shuffle* what is ready takes turns as it says; only what waits for the same future keeps its order.
    What a callback raises is kept in `errors`.
    """

    def __init__(self, shuffle: Random | None = None) -> None:
        self.steps = 0
        self.errors: list[dict[str, Any]] = []
        self.is_interrupted = False
        self._now = _BEGINNING
        self._shuffle = shuffle
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._timer_numbers = count()
        self._tasks: list[SimulatedTask] = []
        self._is_closed = False

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Return when *main* has ended, or somebody interrupts; all tasks are left where they are.

        Raises:
            Stuck: nothing is left to be done, or there is no end of it.
        """
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(self._see_to_the_end(main))
            self._run()
            if task.done():
                task.result()
        finally:
            asyncio._set_running_loop(None)

    def close(self) -> None:
        """End all tasks where they are; what they do then has no effect."""
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            coroutine = task.get_coro()
            if not task.done() and isinstance(coroutine, Coroutine):
                with suppress(Exception):
                    coroutine.close()
        self._tasks.clear()

    def tasks_of(self, process: Process) -> list[SimulatedTask]:
        """Return the tasks of *process* that have not ended, but for the one that asks."""
        current = asyncio.current_task()
        return [
            one for one in self._tasks if one.process is process and not one.done() and one is not current
        ]

    def thaw(self, process: Process) -> None:
        """Let a frozen *process* go on."""
        held_back, process.held_back = process.held_back, None
        self._ready.extend(held_back or ())

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        """Do as asyncio does."""
        handle = _Step(callback, args, context)
        if not self._is_closed:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Do as asyncio does."""
        when = self._now + delay  # from here on as `call_at`, which would cost another call
        handle = _Step(callback, args, context, when)
        if not self._is_closed:
            heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Do as asyncio does."""
        handle = _Step(callback, args, context, when)
        if not self._is_closed:
            heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def create_future(self) -> "Future[Any]":
        """Do as asyncio does."""
        return Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Task[Any]:
        """Do as asyncio does, and keep the task, whoever forgets it."""
        task = SimulatedTask(coro, self, name or "task", context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # many will vanish with their process
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what went wrong, but for a reply that nobody has waited for."""
        if "never retrieved" not in context["message"]:
            self.errors.append(context)

    get_debug = staticmethod(bool)  # always False: each future and task asks for it

    def is_closed(self) -> bool:
        """Do as asyncio does."""
        return self._is_closed

    def is_running(self) -> bool:
        """Do as asyncio does."""
        return not self._is_closed

    async def _see_to_the_end(self, main: Coroutine[Any, Any, None]) -> None:
        try:
            await main
        finally:
            self.is_interrupted = True

    def _run(self) -> None:
        ready, shuffle = self._ready, self._shuffle
        while not self.is_interrupted:
            if self.steps > _MOST_STEPS:
                raise Stuck(f"no end after {_MOST_STEPS} steps")
            if not ready:
                self._jump()
            handle: Any = ready.popleft() if shuffle is None or len(ready) == 1 else self._choose(shuffle)
            if handle._cancelled:
                continue
            context = handle._context
            process = context.get(PROCESS)
            if process is None or process.takes(handle):
                self.steps += 1
                try:
                    context.run(handle._callback, *handle._args)
                except Exception as error:  # noqa: BLE001  # it is for who reads `errors`
                    self.errors.append({"callback": handle._callback, "exception": error})

    def _jump(self) -> None:
        """Go to the time of the next timer."""
        timers = self._timers
        while timers:
            when, _, handle = heappop(timers)
            if not handle._cancelled:
                break
        else:
            raise Stuck("everybody waits, and nobody for a timer")
        if when > self._now:
            self._now = when
        self._ready.append(handle)
        while timers and timers[0][0] <= self._now:
            self._ready.append(heappop(timers)[2])

    def _choose(self, shuffle: Random) -> Handle:
        ready = self._ready
        index = int(shuffle.random() * min(len(ready), _WINDOW))
        if index and (source := _source(ready[index])) is not None:
            first = 0
            while _source(ready[first]) is not source:
                first += 1
            index = first
        handle = ready[index]
        del ready[index]
        return handle


def _source(handle: Handle) -> object:
    """Return the future that *handle* is called for, if it is for one."""
    args = handle._args
    return args[0] if args and isinstance(args[0], Future) else None


def make_loop(shuffle: Random | None = None) -> VirtualLoop:
    """Return a loop; of what asyncio asks of one it has what callactors uses."""
    return VirtualLoop(shuffle)  # type: ignore[abstract]
