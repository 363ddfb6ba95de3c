"""Actors that fail, in every hook."""

import asyncio
from asyncio import Future
from collections.abc import Callable
from typing import Any

import pytest

from callactors.actors import Actor, ActorRegistry, Envelope, Home, RegistryLimits
from callactors.errors import (
    ActorFailed,
    ActorStopped,
    StorageUnavailable,
    Unavailable,
)
from tests.actor_scenes import registry_of, ticks


async def test_failed_message_is_answered_and_the_next_one_meets_a_new_actor() -> None:
    made: list[object] = []

    class Fragile(Actor[str, int]):
        async def on_start(self) -> None:
            made.append(self)

        async def receive(self, envelope: Envelope[int]) -> None:
            if envelope.message == 2:
                raise ValueError
            envelope.answer(len(made))

    async with registry_of(Fragile) as registry:
        first, second, third = (registry.ask("a", number) for number in (1, 2, 3))
        assert await first == 1
        with pytest.raises(ActorFailed):
            await second
        assert await third == 2
    assert len(set(made)) == 2
    assert (registry.activations, registry.restarts, registry.passivations) == (2, 1, 1)


@pytest.mark.parametrize(("window", "counts"), [(3600.0, [1, 2, 3]), (0.0, [1, 1, 1])])
async def test_failures_are_counted_within_the_window(window: float, counts: list[int]) -> None:
    seen: list[tuple[str, str, int]] = []

    class Fragile(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            raise ValueError(envelope.message)

        async def on_failure(self, error: Exception, failures: int) -> None:
            seen.append((self.key, repr(error), failures))

    async with registry_of(Fragile, RegistryLimits(failure_window=window)) as registry:
        for number in (1, 2, 3):
            with pytest.raises(ActorFailed):
                await registry.ask("a", number)
        with pytest.raises(ActorFailed):
            await registry.ask("b", 4)
    assert seen == [
        *(("a", f"ValueError({number})", count) for number, count in enumerate(counts, 1)),
        ("b", "ValueError(4)", 1),
    ]


async def test_count_of_failures_has_an_end() -> None:
    counts: list[int] = []

    class Fragile(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            raise ValueError

        async def on_failure(self, error: Exception, failures: int) -> None:
            counts.append(failures)

    async with registry_of(Fragile) as registry:
        for number in range(102):
            registry.tell("a", number)
    assert counts == [*range(1, 101), 100, 100]


async def test_actor_that_failed_gets_no_on_stop() -> None:
    history: list[str] = []

    class Fragile(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            raise ValueError

        async def on_failure(self, error: Exception, failures: int) -> None:
            history.append("failure")

        async def on_stop(self) -> None:
            history.append("stop")

    async with registry_of(Fragile) as registry:
        registry.tell("a", 1)
    assert history == ["failure"]


async def test_message_that_on_failure_tells_meets_the_next_actor() -> None:
    made: list[object] = []
    received = asyncio.get_running_loop().create_future()

    class Fragile(Actor[str, int]):
        async def on_start(self) -> None:
            made.append(self)

        async def receive(self, envelope: Envelope[int]) -> None:
            if envelope.message == 1:
                raise ValueError
            received.set_result((envelope.message, made.index(self)))

        async def on_failure(self, error: Exception, failures: int) -> None:
            await ticks(1)
            self.home.tell(2)

    async with registry_of(Fragile) as registry:
        registry.tell("a", 1)
        assert await received == (2, 1)


in_hooks = pytest.mark.parametrize(
    ("error", "answer"),
    [
        (ValueError, ActorFailed),
        (StorageUnavailable, StorageUnavailable),
        (asyncio.CancelledError, ActorStopped),  # a future that a hook awaited was cancelled
    ],
)


async def assert_works(registry: ActorRegistry[str, int]) -> None:
    assert await registry.ask("a", 1_000) == "next incarnation"


def breaks_once(error: type[BaseException]) -> Callable[[], str]:
    """Return a function that raises *error* when it is first called."""
    errors = [error]

    def trip() -> str:
        if errors:
            raise errors.pop()
        return "next incarnation"

    return trip


@in_hooks
async def test_failure_to_make_an_actor_answers_what_waits(
    error: type[BaseException], answer: type[Unavailable]
) -> None:
    trip = breaks_once(error)

    class Fragile(Actor[str, int]):
        def __init__(self, key: str, home: Home[int]) -> None:
            super().__init__(key, home)
            trip()

        async def receive(self, envelope: Envelope[int]) -> None:
            envelope.answer("next incarnation")

    async with registry_of(Fragile) as registry:
        for reply in [registry.ask("a", 1), registry.ask("a", 2)]:
            with pytest.raises(answer):
                await reply
        assert "a" not in registry
        await assert_works(registry)


@in_hooks
async def test_failure_in_on_start_answers_what_waits(
    error: type[BaseException], answer: type[Unavailable]
) -> None:
    trip = breaks_once(error)

    class Fragile(Actor[str, int]):
        async def on_start(self) -> None:
            await ticks(1)
            trip()

        async def receive(self, envelope: Envelope[int]) -> None:
            envelope.answer("next incarnation")

    async with registry_of(Fragile) as registry:
        for reply in [registry.ask("a", 1), registry.ask("a", 2)]:
            with pytest.raises(answer):
                await reply
        assert "a" not in registry
        await assert_works(registry)


@in_hooks
async def test_failure_in_on_failure_answers_what_waits(
    error: type[BaseException], answer: type[Unavailable]
) -> None:
    trip = breaks_once(error)

    class Fragile(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            if envelope.message == 1:
                raise ValueError
            envelope.answer("next incarnation")

        async def on_failure(self, error: Exception, failures: int) -> None:
            await ticks(1)
            trip()

    async with registry_of(Fragile) as registry:
        failed, waiting = registry.ask("a", 1), registry.ask("a", 2)
        with pytest.raises(ActorFailed):
            await failed
        with pytest.raises(answer):
            await waiting
        assert "a" not in registry
        await assert_works(registry)


@in_hooks
async def test_failure_in_on_stop_answers_what_waits(
    error: type[BaseException], answer: type[Unavailable]
) -> None:
    trip = breaks_once(error)
    waiting: list[Future[Any]] = []

    class Fragile(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            envelope.answer("next incarnation")
            if envelope.message == 1:
                self.home.leave()

        async def on_stop(self) -> None:
            if not registry.is_closed:
                waiting.extend([registry.ask(self.key, 2), registry.ask(self.key, 3)])
                await ticks(1)
            trip()

    async with registry_of(Fragile) as registry:
        await registry.ask("a", 1)
        assert len(waiting) == 2
        for reply in waiting:
            with pytest.raises(answer):
                await reply
        assert "a" not in registry
        await assert_works(registry)


async def test_message_whose_receive_is_cancelled_from_inside_leaves_nobody_waiting() -> None:
    trip = breaks_once(asyncio.CancelledError)

    class Fragile(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            envelope.answer(trip())

    async with registry_of(Fragile) as registry:
        for reply in [registry.ask("a", 1), registry.ask("a", 2)]:
            with pytest.raises(ActorStopped):
                await reply
        await assert_works(registry)
