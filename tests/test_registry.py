"""Messages and answers of the actors in a registry."""

import asyncio
from asyncio import Event
from collections import defaultdict
from time import monotonic

import pytest

from callactors.actors import Actor, ActorRegistry, Envelope, RegistryLimits
from callactors.errors import (
    MailboxFull,
)
from tests.actor_scenes import Echo, registry_of, ticks


async def test_message_that_is_told_is_received() -> None:
    received = asyncio.get_running_loop().create_future()

    class Listener(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            received.set_result((self.key, envelope.message, envelope.reply))

    async with registry_of(Listener) as registry:
        registry.tell("a", 1)
        assert await received == ("a", 1, None)


async def test_asker_gets_the_answer() -> None:
    async with registry_of(Echo) as registry:
        assert await registry.ask("a", 1) == 1
        assert "a" in registry
        assert "b" not in registry


async def test_answer_may_come_after_receive() -> None:
    handed_on: list[Envelope[int]] = []

    class Clerk(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            handed_on.append(envelope)

    async with registry_of(Clerk) as registry:
        first, second = registry.ask("a", 1), registry.ask("a", 2)
        await ticks(3)
        assert not first.done()
        for envelope in handed_on:
            envelope.answer(-envelope.message)
        assert [await first, await second] == [-1, -2]


async def test_messages_of_many_askers_are_received_in_the_order_of_asking() -> None:
    asked: dict[str, list[int]] = defaultdict(list)
    received: dict[str, list[int]] = defaultdict(list)

    class Slow(Actor[str, int]):
        async def on_start(self) -> None:
            await ticks(3)

        async def receive(self, envelope: Envelope[int]) -> None:
            received[self.key].append(envelope.message)
            await ticks(envelope.message % 3)
            envelope.answer(envelope.message)

    async def asker(number: int) -> None:
        for step in range(5):
            key, message = "abc"[(number + step) % 3], 5 * number + step
            asked[key].append(message)
            assert await registry.ask(key, message) == message
            await ticks(number % 4)

    async with registry_of(Slow) as registry:
        await asyncio.gather(*(asker(number) for number in range(40)))
    assert received == asked


async def test_one_message_of_a_key_is_received_at_a_time_while_other_keys_go_on() -> None:
    inside: set[str] = set()
    both_inside = Event()

    class Lonely(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            assert self.key not in inside
            inside.add(self.key)
            if inside == {"a", "b"}:
                both_inside.set()
            await both_inside.wait()
            await ticks(2)
            inside.remove(self.key)
            envelope.answer(envelope.message)

    async with registry_of(Lonely) as registry:
        replies = [registry.ask(key, number) for number in range(5) for key in "ab"]
        assert await asyncio.gather(*replies) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


async def test_full_mailbox_refuses_an_ask_but_takes_a_tell_and_a_reserved_ask() -> None:
    received: list[int] = []

    class Slow(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            received.append(envelope.message)
            if envelope.message == 1:
                self.home.tell(6)
            envelope.answer(None)

    async with registry_of(Slow, RegistryLimits(mailbox=2)) as registry:
        registry.ask("a", 1)
        registry.ask("a", 2)
        with pytest.raises(MailboxFull):
            registry.ask("a", 3)
        registry.tell("a", 4)
        await registry.ask("a", 5, reserved=True)
        await ticks(1)
        await registry.ask("a", 7)
    assert received == [1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("moment", ["before", "during", "after"])
async def test_asker_who_gives_up_harms_nobody(moment: str) -> None:
    entered, gate = Event(), Event()
    received: list[tuple[int, int]] = []
    envelopes: list[Envelope[int]] = []

    class Slow(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            received.append((envelope.message, id(self)))
            entered.set()
            await gate.wait()
            if moment == "after" and envelope.message == 1:
                envelopes.append(envelope)
            else:
                envelope.answer(id(self))

    async with registry_of(Slow) as registry:
        hasty, patient = registry.ask("a", 1), registry.ask("a", 2)
        if moment == "before":
            hasty.cancel()
        await entered.wait()
        if moment == "during":
            hasty.cancel()
        gate.set()
        incarnation = await patient
        hasty.cancel()
        for envelope in envelopes:
            envelope.answer("late")
        assert hasty.cancelled()
        assert await registry.ask("a", 3) == incarnation
    assert received == [(1, incarnation), (2, incarnation), (3, incarnation)]


async def test_idle_actor_has_no_task() -> None:
    before = asyncio.all_tasks()
    registry = ActorRegistry(Echo)
    await asyncio.gather(*(registry.ask(key, 1) for key in "abc"))
    assert len(registry) == 3
    assert asyncio.all_tasks() == before
    await registry.stop(timeout=5)


async def test_actor_that_is_never_done_lets_others_have_their_turn() -> None:
    class Restless(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            envelope.answer(envelope.message)
            if self.key == "restless":
                self.home.tell(envelope.message)

    async with registry_of(Restless, stop_timeout=0) as registry:
        await registry.ask("restless", 1)
        assert await registry.ask("a", 2) == 2


async def test_what_waits_in_the_mailboxes_is_told_with_its_age() -> None:
    go_on = Event()

    class Busy(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            await go_on.wait()
            envelope.answer(envelope.message)

    async with registry_of(Busy) as registry:
        assert registry.look() == (0, 0, 0.0)
        first = monotonic()
        asked = [registry.ask(key, 1) for key in "aaabb"]
        last = monotonic()
        await ticks(1)  # each actor has taken its first message
        begin, found, end = monotonic(), registry.look(), monotonic()
        assert (found.messages, found.fullest) == (3, 2)
        assert begin - last <= found.age <= end - first
        go_on.set()
        await asyncio.gather(*asked)
        await ticks(1)
        assert (registry.look(), registry.working) == ((0, 0, 0.0), set())
