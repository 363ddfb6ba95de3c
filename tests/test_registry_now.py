"""Messages that an idle actor takes at once, without a task."""

import asyncio

import pytest

from callactors.actors import Actor, Envelope, Home
from callactors.errors import ActorFailed
from tests.actor_scenes import registry_of


class Quick(Actor[str, int]):
    """Takes even numbers at once and odd ones in its own time; fails at once on 13."""

    def __init__(self, key: str, home: Home[int]) -> None:
        super().__init__(key, home)
        self.taken: list[int] = []

    async def receive(self, envelope: Envelope[int]) -> None:
        await asyncio.sleep(0)
        self.taken.append(envelope.message)
        envelope.answer(list(self.taken))

    def receive_now(self, envelope: Envelope[int]) -> bool:
        if envelope.message == 13:
            raise RuntimeError("cannot bear this number")
        if envelope.message % 2:
            return False
        self.taken.append(envelope.message)
        envelope.answer(list(self.taken))
        return True


async def test_an_idle_actor_takes_a_message_without_a_task() -> None:
    async with registry_of(Quick) as registry:
        await registry.ask("a", 1)
        tasks = asyncio.all_tasks()
        reply = registry.ask("a", 2)
        assert reply.done()
        assert asyncio.all_tasks() == tasks
        assert await reply == [1, 2]


async def test_the_order_is_kept_whichever_way_messages_go() -> None:
    async with registry_of(Quick) as registry:
        replies = [registry.ask("a", n) for n in (1, 2, 3, 4, 6)]
        assert await asyncio.gather(*replies) == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 6]]
        assert await registry.ask("a", 8) == [1, 2, 3, 4, 6, 8]


async def test_a_failure_at_once_is_a_failure_like_any_other() -> None:
    failures: list[tuple[str, int]] = []

    class Fragile(Quick):
        async def on_failure(self, error: Exception, failures_: int) -> None:
            failures.append((str(error), failures_))

    async with registry_of(Fragile) as registry:
        await registry.ask("a", 1)
        with pytest.raises(ActorFailed):
            await registry.ask("a", 13)
        assert failures == [("cannot bear this number", 1)]
        assert await registry.ask("a", 3) == [3]


async def test_what_an_actor_asks_itself_while_it_takes_a_message_waits() -> None:
    class Talker(Quick):
        def receive_now(self, envelope: Envelope[int]) -> bool:
            if envelope.message == 2:
                registry.ask(self.key, 6)
                self.home.tell(4)
                assert self.taken == [1]
            return super().receive_now(envelope)

    async with registry_of(Talker) as registry:
        await registry.ask("a", 1)
        registry.ask("a", 2)
        assert await registry.ask("a", 7) == [1, 2, 6, 4, 7]


async def test_an_actor_that_is_to_leave_takes_nothing_at_once() -> None:
    class Leaver(Quick):
        def receive_now(self, envelope: Envelope[int]) -> bool:
            if envelope.message == 2:
                self.home.leave()
            return super().receive_now(envelope)

    async with registry_of(Leaver) as registry:
        await registry.ask("a", 1)
        assert await registry.ask("a", 2) == [1, 2]
        assert await registry.ask("a", 4) == [1, 2, 4]
        while "a" in registry:  # noqa: ASYNC110  # it leaves in a task of its own
            await asyncio.sleep(0)
        assert await registry.ask("a", 1) == [1]
