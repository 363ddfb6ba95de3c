"""The stop of a registry."""

import asyncio
from asyncio import Event

import pytest

from callactors.actors import Actor, ActorRegistry, Envelope
from callactors.errors import (
    ActorStopped,
    Draining,
)
from tests.actor_scenes import Echo, registry_of, ticks


async def test_stop_drains_the_mailboxes_and_refuses_new_messages() -> None:
    entered, gate = Event(), Event()
    history: list[object] = []

    class Slow(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            entered.set()
            await gate.wait()
            history.append(envelope.message)
            envelope.answer(envelope.message)

        async def on_stop(self) -> None:
            history.append("stopped")

    async with registry_of(Slow) as registry:
        replies = [registry.ask("a", number) for number in (1, 2, 3)]
        await entered.wait()
        stop = asyncio.create_task(registry.stop(timeout=5))
        await ticks(1)
        for key in "ab":
            with pytest.raises(Draining):
                registry.ask(key, 4)
            with pytest.raises(Draining):
                registry.tell(key, 4)
        gate.set()
        await stop
        assert [reply.result() for reply in replies] == [1, 2, 3]
        assert history == [1, 2, 3, "stopped"]


async def test_stop_lets_busy_and_idle_actors_leave() -> None:
    stopped: list[str] = []

    class Guest(Echo):
        @property
        def is_busy(self) -> bool:
            return self.key == "busy"

        async def on_stop(self) -> None:
            await ticks(2)
            stopped.append(self.key)

    async with registry_of(Guest) as registry:
        await registry.ask("busy", 1)
        await registry.ask("idle", 1)
    assert sorted(stopped) == ["busy", "idle"]


async def test_stop_lets_many_actors_leave_a_thousand_at_a_time() -> None:
    leaving, most, stopped = 0, 0, 0

    class Leaver(Echo):
        async def on_stop(self) -> None:
            nonlocal leaving, most, stopped
            leaving += 1
            most = max(most, leaving)
            await ticks(3)
            leaving -= 1
            stopped += 1

    async with registry_of(Leaver) as registry:
        await asyncio.gather(*(registry.ask(str(number), 1) for number in range(2_500)))
    assert stopped == 2_500
    assert most == 1_000


async def test_stop_lets_many_actors_at_work_leave() -> None:
    stopped: list[str] = []

    class Leaver(Echo):
        async def on_stop(self) -> None:
            await ticks(3)
            stopped.append(self.key)

    async with registry_of(Leaver, stop_timeout=3600) as registry:
        replies = [registry.ask(str(number), number) for number in range(2_500)]
    assert [await reply for reply in replies] == [*range(2_500)]
    assert len(stopped) == len(set(stopped)) == 2_500


async def test_messages_an_actor_tells_itself_while_stopping_are_received() -> None:
    received: list[int] = []

    class Countdown(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            received.append(envelope.message)
            await ticks(1)
            if envelope.message > 0:
                self.home.tell(envelope.message - 1)

        async def on_stop(self) -> None:
            if received[-1] == 0:
                self.home.tell(-1)

    async with registry_of(Countdown) as registry:
        registry.tell("a", 3)
    assert received == [3, 2, 1, 0, -1]


async def test_leftovers_are_answered_after_the_timeout() -> None:
    entered = Event()

    class Stuck(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            entered.set()
            await Event().wait()

    async with registry_of(Stuck, stop_timeout=0) as registry:
        replies = [registry.ask("a", number) for number in (1, 2, 3)]
        await entered.wait()
        replies.append(registry.ask("b", 4))
    assert [type(reply.exception()) for reply in replies] == [ActorStopped] * 4


@pytest.mark.parametrize("hook", ["on_start", "on_failure", "on_stop"])
async def test_messages_behind_a_stuck_hook_are_answered_after_the_timeout(hook: str) -> None:
    entered = Event()

    async def stick_in(this: str) -> None:
        if this == hook:
            entered.set()
            await Event().wait()

    class Stuck(Actor[str, int]):
        async def on_start(self) -> None:
            await stick_in("on_start")

        async def receive(self, envelope: Envelope[int]) -> None:
            self.home.leave()
            if hook == "on_failure":
                raise ValueError

        async def on_failure(self, error: Exception, failures: int) -> None:
            await stick_in("on_failure")

        async def on_stop(self) -> None:
            await stick_in("on_stop")

    async with registry_of(Stuck, stop_timeout=0) as registry:
        registry.tell("a", 1)
        await entered.wait()
        reply = registry.ask("a", 2)
    with pytest.raises(ActorStopped):
        await reply


async def test_actor_that_does_not_heed_its_cancellation_gets_no_more_messages(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered = Event()
    received: list[int] = []

    class Stubborn(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            received.append(envelope.message)
            entered.set()
            try:
                await Event().wait()
            except asyncio.CancelledError:
                await ticks(3)
                self.home.tell(3)
                envelope.answer("done all the same")

    async with registry_of(Stubborn, stop_timeout=0) as registry:
        first, second = registry.ask("a", 1), registry.ask("a", 2)
        await entered.wait()
    assert await first == "done all the same"
    with pytest.raises(ActorStopped):
        await second
    assert received == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_actor_that_never_stops_telling_itself_cannot_keep_the_registry_from_stopping() -> None:
    class Restless(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            envelope.answer(envelope.message)

        async def on_stop(self) -> None:
            self.home.tell(1)

    async with registry_of(Restless, stop_timeout=0) as registry:
        await registry.ask("a", 1)


async def test_stop_that_is_cancelled_answers_what_is_left() -> None:
    entered = Event()

    class Stuck(Actor[str, int]):
        async def receive(self, envelope: Envelope[int]) -> None:
            entered.set()
            await Event().wait()

    async with registry_of(Stuck) as registry:
        replies = [registry.ask("a", number) for number in (1, 2)]
        await entered.wait()
        stop = asyncio.create_task(registry.stop(timeout=5))
        await ticks(1)
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        assert [type(reply.exception()) for reply in replies] == [ActorStopped] * 2
        assert len(registry) == 0


async def test_message_and_stop_in_the_same_tick_leave_nobody_waiting() -> None:
    async with registry_of(Echo) as registry:
        drained = registry.ask("a", 1)
    assert await drained == 1
    async with registry_of(Echo, stop_timeout=0) as registry:
        reply = registry.ask("a", 1)
    assert reply.done()


async def test_registry_that_was_never_used_stops_at_once() -> None:
    registry = ActorRegistry(Echo)
    await registry.stop(timeout=0)
    await registry.stop(timeout=0)
    with pytest.raises(Draining):
        registry.tell("a", 1)
