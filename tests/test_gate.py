"""The gate before the AI step: passes in order, a bound, and a pause when the provider is down."""

import asyncio

import pytest

from callactors.processors.gate import Gate, GateLimits, GateState, Pass


class Scene:
    """A gate, who was let in by it, in order, and what it told."""

    def __init__(self, **limits: float) -> None:
        self.told: list[GateState] = []
        self.let_in: list[str] = []
        self._has_news = asyncio.Event()
        self.gate = Gate(GateLimits(**limits), on_change=self.told.append)  # type: ignore[arg-type]

    def ask(self, name: str) -> Pass:
        asked = self.gate.ask(lambda: self._let_in(name))
        if asked.is_good:
            self._let_in(name)
        return asked

    async def until_let_in(self, name: str) -> None:
        while name not in self.let_in:
            self._has_news.clear()
            await self._has_news.wait()

    def _let_in(self, name: str) -> None:
        self.let_in.append(name)
        self._has_news.set()

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.gate.ask(lambda: None).give_back(False)


async def test_passes_are_bounded_and_come_in_order() -> None:
    scene = Scene(attempts=2)
    passes = [scene.ask(name) for name in "abcd"]
    assert (scene.let_in, scene.gate.running, scene.gate.waiting) == (["a", "b"], 2, 2)
    passes[1].give_back(True)
    passes[1].give_back(True)
    assert (scene.let_in, scene.gate.running) == (["a", "b", "c"], 2)
    passes[0].give_back()
    assert scene.let_in == ["a", "b", "c", "d"]


async def test_who_gives_up_waiting_is_not_let_in() -> None:
    scene = Scene(attempts=1)
    first, second, _ = (scene.ask(name) for name in "abc")
    second.give_back()
    assert scene.gate.waiting == 1
    first.give_back(True)
    assert scene.let_in == ["a", "c"]


async def test_nobody_overtakes_those_who_wait() -> None:
    scene = Scene(attempts=2, failures=1, pause=60.0)
    running, other = scene.ask("a"), scene.ask("b")
    running.give_back(False)
    scene.ask("c")
    other.give_back(True)
    assert scene.let_in == ["a", "b", "c"]
    assert scene.told == [GateState.CLOSED, GateState.OPEN]


async def test_failures_in_a_row_pause_the_step_and_one_call_tries() -> None:
    scene = Scene(attempts=5, failures=3, pause=0.01)
    scene.fail(2)
    scene.ask("good").give_back(True)
    scene.fail(2)
    assert scene.told == []
    scene.fail(1)
    assert (scene.told, scene.gate.state) == ([GateState.CLOSED], GateState.CLOSED)
    first, second = scene.ask("first"), scene.ask("second")
    await scene.until_let_in("first")
    assert (scene.gate.state, second.is_good) == (GateState.TRYING, False)
    first.give_back(False)
    assert scene.gate.state is GateState.CLOSED
    await scene.until_let_in("second")
    third = scene.ask("third")
    assert not third.is_good
    second.give_back(True)
    assert scene.let_in[-1] == "third"
    assert scene.told == [
        GateState.CLOSED,
        GateState.TRYING,
        GateState.CLOSED,
        GateState.TRYING,
        GateState.OPEN,
    ]


async def test_who_tries_and_is_cancelled_lets_the_next_one_try() -> None:
    scene = Scene(failures=1, pause=0.01)
    scene.fail(1)
    first, second = scene.ask("first"), scene.ask("second")
    await scene.until_let_in("first")
    first.give_back()
    assert (second.is_good, scene.gate.state) == (True, GateState.TRYING)


async def test_without_a_number_of_failures_nothing_pauses() -> None:
    scene = Scene(failures=0)
    scene.fail(1_000)
    assert scene.told == []


@pytest.mark.parametrize("outcome", [True, False, None])
async def test_a_closed_gate_lets_nobody_in(outcome: bool | None) -> None:
    scene = Scene(attempts=1)
    first = scene.ask("a")
    scene.ask("b")
    scene.gate.close()
    first.give_back(outcome)
    assert scene.let_in == ["a"]
