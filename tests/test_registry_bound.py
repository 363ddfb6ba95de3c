"""The bound on resident actors."""

import asyncio
from asyncio import Event

import pytest

from callactors.actors import Actor, Envelope, RegistryLimits
from callactors.errors import (
    Overloaded,
)
from tests.actor_scenes import Echo, registry_of, ticks


async def test_the_least_recently_used_actor_leaves_first() -> None:
    stopped: list[str] = []

    class Guest(Echo):
        async def on_stop(self) -> None:
            stopped.append(self.key)

    async with registry_of(Guest, RegistryLimits(resident=3)) as registry:
        for key in "abcbadec":
            await registry.ask(key, 1)
        await ticks(2)
        assert stopped == ["c", "b", "a"]
        assert len(registry) == 3


async def test_message_is_refused_when_no_actor_can_leave() -> None:
    entered, gate = Event(), Event()
    busy = {"busy"}

    class Guest(Actor[str, int]):
        @property
        def is_busy(self) -> bool:
            return self.key in busy

        async def receive(self, envelope: Envelope[int]) -> None:
            if self.key == "at work":
                entered.set()
                await gate.wait()
            envelope.answer(envelope.message)

    async with registry_of(Guest, RegistryLimits(resident=2)) as registry:
        await registry.ask("busy", 1)
        at_work = registry.ask("at work", 2)
        await entered.wait()
        with pytest.raises(Overloaded):
            registry.ask("a", 3)
        with pytest.raises(Overloaded):
            registry.tell("a", 3)
        assert await registry.ask("busy", 4) == 4
        gate.set()
        assert await at_work == 2
        assert await registry.ask("a", 5) == 5
        busy.clear()
        assert await registry.ask("b", 6) == 6
        assert "busy" not in registry


async def test_actor_that_becomes_busy_before_it_has_left_stays() -> None:
    busy: set[str] = set()
    stopped: list[str] = []

    class Worker(Actor[str, int]):
        @property
        def is_busy(self) -> bool:
            return self.key in busy

        async def receive(self, envelope: Envelope[int]) -> None:
            if envelope.message == 2:
                busy.add(self.key)
            envelope.answer(id(self))

        async def on_stop(self) -> None:
            stopped.append(self.key)

    async with registry_of(Worker, RegistryLimits(resident=1)) as registry:
        incarnation = await registry.ask("a", 1)
        other = registry.ask("b", 1)
        assert await registry.ask("a", 2) == incarnation
        await other
        await ticks(3)
        assert not stopped
        assert await registry.ask("a", 3) == incarnation
        with pytest.raises(Overloaded):
            registry.ask("c", 1)
        busy.clear()
        await registry.ask("c", 1)
        await ticks(3)
        assert sorted(stopped) == ["a", "b"]


async def test_actors_that_came_back_while_they_left_leave_room_again_later() -> None:
    class Leaver(Echo):
        async def on_stop(self) -> None:
            await ticks(3)

    async with registry_of(Leaver, RegistryLimits(resident=2)) as registry:
        for key in "ab":
            await registry.ask(key, 1)
        replies = [registry.ask(key, 1) for key in "cd"]
        await ticks(2)
        replies += [registry.ask(key, 2) for key in "ab"]
        await asyncio.gather(*replies)
        await ticks(5)
        assert len(registry) == 4
        await registry.ask("e", 1)
        await ticks(5)
        assert len(registry) == 2


async def test_crowd_of_busy_actors_hides_the_one_that_can_leave_only_once() -> None:
    class Guest(Echo):
        @property
        def is_busy(self) -> bool:
            return self.key != "idle"

    async with registry_of(Guest, RegistryLimits(resident=1_501)) as registry:
        await asyncio.gather(*(registry.ask(str(number), 1) for number in range(1_500)))
        await registry.ask("idle", 1)
        with pytest.raises(Overloaded):
            registry.ask("a", 1)
        await registry.ask("a", 1)
        assert "idle" not in registry


async def test_message_is_refused_when_too_many_actors_are_leaving() -> None:
    gate = Event()

    class Leaver(Echo):
        async def on_stop(self) -> None:
            await gate.wait()

    async with registry_of(Leaver, RegistryLimits(resident=1_000)) as registry:
        for crowd in (range(1_000), range(1_000, 2_000)):
            await asyncio.gather(*(registry.ask(str(number), 1) for number in crowd))
        for _ in range(3):
            with pytest.raises(Overloaded):
                registry.ask("a", 1)
        gate.set()
        await ticks(3)
        assert await registry.ask("a", 1) == 1
