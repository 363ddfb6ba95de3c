"""Actors that leave, while messages go on arriving."""

import asyncio
from asyncio import Event, Future
from typing import Any

import pytest

from callactors.actors import Actor, Envelope, Home
from callactors.errors import (
    ActorStopped,
)
from tests.actor_scenes import HASTY, Echo, registry_of, ticks


async def test_message_at_any_step_of_passivation_is_received_in_order_by_one_actor() -> None:
    phases: set[str] = set()
    history: list[str] = []

    class Leaver(Actor[str, str]):
        async def on_start(self) -> None:
            history.append("start")
            await ticks(1)

        async def receive(self, envelope: Envelope[str]) -> None:
            history.append(envelope.message)
            if envelope.message == "leave":
                self.home.leave()
            await ticks(1)
            envelope.answer(None)

        async def on_stop(self) -> None:
            for step in range(3):
                history.append(f"stopping {step}")
                await ticks(1)
            history.append("stopped")

    beginning = ["start", "leave"]
    end = ["stopping 0", "stopping 1", "stopping 2", "stopped"]
    for delay in range(12):
        history.clear()
        async with registry_of(Leaver) as registry:
            registry.tell("a", "leave")
            await ticks(delay)
            phase = history[-1] if history else "not yet"
            phases.add(phase if "a" in registry else "forgotten")
            await asyncio.gather(registry.ask("a", "one"), registry.ask("a", "two"))
            arrived_in_time = phase in {"not yet", *beginning}
        if arrived_in_time:
            assert history == [*beginning, "one", "two", *end]
        else:
            assert history == [*beginning, *end, "start", "one", "two", *end]
    assert phases == {"not yet", *beginning, *end[:3], "forgotten"}


async def test_message_told_in_the_last_line_of_on_stop_is_received_by_the_next_actor() -> None:
    made: list[object] = []

    class Leaver(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            if self not in made:
                made.append(self)
            envelope.answer(made.index(self))
            if envelope.message == 1:
                self.home.leave()

        async def on_stop(self) -> None:
            if not registry.is_closed:
                replies.append(registry.ask(self.key, 2))

    replies: list[Future[Any]] = []
    async with registry_of(Leaver) as registry:
        assert await registry.ask("a", 1) == 0
        assert await replies[0] == 1
        assert await registry.ask("a", 3) == 1, "who has come back stays"


async def test_idle_actor_is_passivated_after_the_timeout() -> None:
    stopped = Event()

    class Sleepy(Echo):
        async def on_stop(self) -> None:
            stopped.set()

    async with registry_of(Sleepy, HASTY) as registry:
        await registry.ask("a", 1)
        await stopped.wait()
        assert "a" not in registry
        assert await registry.ask("a", 2) == 2


async def test_idle_actors_are_passivated_five_hundred_at_a_time() -> None:
    leaving, half, all_of_them, gate = 0, Event(), Event(), Event()

    class Sleepy(Echo):
        async def on_stop(self) -> None:
            nonlocal leaving
            leaving += 1
            if leaving == 500:
                half.set()
            if leaving == 600:
                all_of_them.set()
            await gate.wait()

    async with registry_of(Sleepy, HASTY) as registry:
        await asyncio.gather(*(registry.ask(str(number), 1) for number in range(600)))
        await half.wait()
        await ticks(5)
        assert leaving == 500
        gate.set()
        await all_of_them.wait()


async def test_busy_actor_stays_until_it_is_done() -> None:
    stopped = {"busy": Event(), "idle": Event()}
    busy = {"busy"}

    class Worker(Echo):
        @property
        def is_busy(self) -> bool:
            return self.key in busy

        async def on_stop(self) -> None:
            stopped[self.key].set()

    async with registry_of(Worker, HASTY) as registry:
        await registry.ask("busy", 1)
        await registry.ask("idle", 1)
        await stopped["idle"].wait()
        assert "busy" in registry
        assert not stopped["busy"].is_set()
        busy.clear()
        await stopped["busy"].wait()


async def test_busy_actor_that_wants_to_leave_may() -> None:
    stopped = Event()

    class Worker(Actor[str, int]):
        is_busy = True

        async def receive(self, envelope: Envelope[int]) -> None:
            self.home.leave()

        async def on_stop(self) -> None:
            stopped.set()

    async with registry_of(Worker) as registry:
        registry.tell("a", 1)
        await stopped.wait()
        assert "a" not in registry


async def test_actor_that_is_always_at_work_keeps_no_other_from_leaving() -> None:
    stopped = Event()

    class Worker(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            if self.key == "at work" and not registry.is_closed:
                asyncio.get_running_loop().call_soon(self.home.tell, envelope.message)

        async def on_stop(self) -> None:
            if self.key == "idle":
                stopped.set()

    async with registry_of(Worker, HASTY) as registry:
        registry.tell("at work", 1)
        registry.tell("idle", 1)
        await stopped.wait()
        assert "at work" in registry


async def test_actor_that_cannot_say_whether_it_is_busy_stays_and_keeps_no_other_from_leaving() -> None:
    stopped = Event()

    class Worker(Echo):
        @property
        def is_busy(self) -> bool:
            if self.key == "confused":
                raise ValueError
            return False

        async def on_stop(self) -> None:
            stopped.set()

    async with registry_of(Worker, HASTY) as registry:
        await registry.ask("confused", 1)
        await registry.ask("idle", 1)
        await stopped.wait()
        assert "confused" in registry


async def test_message_put_back_during_receive_comes_before_newer_ones() -> None:
    received: list[int] = []

    class Hesitant(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            received.append(envelope.message)
            if envelope.message == 1 and received.count(1) < 3:
                self.home.put_back([envelope])
                await ticks(1)
            else:
                envelope.answer(envelope.message)

    async with registry_of(Hesitant) as registry:
        replies = [registry.ask("a", number) for number in (1, 2, 3)]
        assert await asyncio.gather(*replies) == [1, 2, 3]
    assert received == [1, 1, 1, 2, 3]


class Holder(Actor[str, int]):
    """Holds a message below 10 when it first comes, and answers it when it comes back."""

    def __init__(self, key: str, home: Home[int]) -> None:
        super().__init__(key, home)
        self.held: list[Envelope[int]] = []
        self.received: list[int] = []

    async def receive(self, envelope: Envelope[int]) -> None:
        self.received.append(envelope.message)
        if envelope.message < 10 and envelope.tries == 0:
            envelope.tries = 1
            self.held.append(envelope)
        else:
            await ticks(3)
            envelope.answer(envelope.message)


class Made(list[Holder]):
    """The incarnations that were made of *kind*, as a function that makes them."""

    def __init__(self, kind: type[Holder] = Holder) -> None:
        super().__init__()
        self.kind = kind

    def __call__(self, key: str, home: Home[int]) -> Holder:
        self.append(self.kind(key, home))
        return self[-1]


async def test_message_put_back_when_the_actor_is_idle_wakes_it() -> None:
    made = Made()
    async with registry_of(made) as registry:
        reply = registry.ask("a", 1)
        await ticks(3)
        made[0].home.put_back(made[0].held)
        assert await reply == 1


async def test_messages_put_back_when_the_actor_is_idle_come_before_newer_ones() -> None:
    made = Made()
    async with registry_of(made) as registry:
        replies = [registry.ask("a", number) for number in (1, 2)]
        await ticks(3)
        replies.append(registry.ask("a", 10))
        made[0].home.put_back(made[0].held)
        assert await asyncio.gather(*replies) == [1, 2, 10]
    assert [holder.received for holder in made] == [[1, 2, 1, 2, 10]]


async def test_messages_put_back_in_parts_come_in_their_order() -> None:
    made = Made()
    async with registry_of(made) as registry:
        replies = [registry.ask("a", number) for number in (1, 2, 3, 10)]
        await replies[-1]
        replies.append(registry.ask("a", 11))
        (holder,) = made
        holder.home.put_back(holder.held[:2])
        await ticks(2)
        assert holder.received == [1, 2, 3, 10, 1]
        holder.home.put_back(holder.held[2:])
        await asyncio.gather(*replies)
    assert holder.received == [1, 2, 3, 10, 1, 2, 3, 11]


async def test_messages_put_back_during_on_stop_come_before_newer_ones_in_the_next_actor() -> None:
    class Leaver(Holder):
        async def on_stop(self) -> None:
            if self.held:
                replies.append(registry.ask(self.key, 10))
                await ticks(1)
                self.home.put_back(self.held)
                await ticks(1)

    made = Made(Leaver)
    async with registry_of(made) as registry:
        replies = [registry.ask("a", number) for number in (1, 2)]
        await ticks(3)
        made[0].home.leave()
        await asyncio.gather(*replies)
        assert await replies[2] == 10
    assert [holder.received for holder in made] == [[1, 2], [1, 2, 10]]


async def test_messages_put_back_after_the_actor_was_forgotten_are_answered() -> None:
    made = Made()
    async with registry_of(made) as registry:
        reply = registry.ask("a", 1)
        await ticks(3)
        made[0].home.leave()
        await ticks(3)
        assert "a" not in registry
        made[0].home.put_back(made[0].held)
        with pytest.raises(ActorStopped):
            await reply
        assert "a" not in registry
    assert len(made) == 1


async def test_home_of_a_forgotten_actor_does_nothing_to_the_next_one() -> None:
    made = Made()
    async with registry_of(made) as registry:
        held = registry.ask("a", 1)
        await ticks(3)
        made[0].home.leave()
        await ticks(3)
        await registry.ask("a", 10)
        tasks = asyncio.all_tasks()
        made[0].home.leave()
        made[0].home.tell(11)
        made[0].home.put_back(made[0].held)
        assert asyncio.all_tasks() == tasks
        await ticks(3)
        await registry.ask("a", 12)
        with pytest.raises(ActorStopped):
            await held
    assert [holder.received for holder in made] == [[1], [10, 12]]
