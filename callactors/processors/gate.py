"""The gate before the AI step: so many attempts at once, and none for a while when the provider is down."""

import asyncio
import logging
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

log = logging.getLogger(__name__)


class GateState(StrEnum):
    """OPEN lets attempts pass, CLOSED none, and TRYING one, whose outcome decides."""

    OPEN = "open"
    CLOSED = "closed"
    TRYING = "trying"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """*attempts* may run at once; after *failures* in a row, if any, none begins for *pause* seconds."""

    attempts: int = 200
    failures: int = 20
    pause: float = 30.0


class Gate:
    """Gives out passes, in the order in which they were asked for; *on_change* hears of the state.

    A circuit breaker: when it is closed, calls wait without using up attempts.
    """

    def __init__(self, limits: GateLimits, *, on_change: Callable[[GateState], None]) -> None:
        self.limits = limits
        self.state = GateState.OPEN
        self.running = 0
        self._on_change = on_change
        self._waiting: deque[Pass] = deque()
        self._failures = 0
        self._timer: TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait for a pass."""
        return sum(not one.is_over for one in self._waiting)

    def ask(self, on_good: Callable[[], None]) -> "Pass":
        """Return a pass; if it is not good yet, *on_good* is called when it is."""
        made = Pass(self, on_good)
        if self._has_room and not self._waiting:
            self._admit(made)
        else:
            self._waiting.append(made)
        return made

    def close(self) -> None:
        """Let nobody in any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _has_room(self) -> bool:
        most = {GateState.OPEN: self.limits.attempts, GateState.CLOSED: 0, GateState.TRYING: 1}
        return self.running < most[self.state]

    def _admit(self, one: "Pass") -> None:
        one.is_good = True
        self.running += 1

    def give_back(self, has_succeeded: bool | None) -> None:
        """Take a good pass back; None says nothing about the provider."""
        self.running -= 1
        if has_succeeded:
            self._failures = 0
            self._go_to(GateState.OPEN)
        elif has_succeeded is not None:
            self._failures += 1
            is_down = self.state is GateState.TRYING or 0 < self.limits.failures <= self._failures
            if is_down and self.state is not GateState.CLOSED:
                self._pause()
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._has_room:
            one = self._waiting.popleft()
            if not one.is_over:
                self._admit(one)
                one.on_good()

    def _pause(self) -> None:
        self._go_to(GateState.CLOSED)
        self._timer = asyncio.get_running_loop().call_later(self.limits.pause, self._try)

    def _try(self) -> None:
        self._timer = None
        self._go_to(GateState.TRYING)
        self._let_in()

    def _go_to(self, state: GateState) -> None:
        if state is self.state:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.state = state
        if state is GateState.CLOSED:
            seconds, failures = self.limits.pause, self._failures
            log.error("the AI step pauses for %g s: its last %d attempts failed", seconds, failures)
        elif state is GateState.OPEN:
            log.warning("the AI step goes on")
        self._on_change(state)


class Pass:
    """The right to begin one attempt, once it is good, until it is given back."""

    __slots__ = ("_gate", "is_good", "is_over", "on_good")

    def __init__(self, gate: Gate, on_good: Callable[[], None]) -> None:
        self._gate = gate
        self.on_good = on_good
        self.is_good = False
        self.is_over = False

    def give_back(self, has_succeeded: bool | None = None) -> None:
        """Let the next one in. Repeating it changes nothing."""
        if self.is_over:
            return
        self.is_over = True
        if self.is_good:
            self._gate.give_back(has_succeeded)
