"""Actors in their registry: order, answers, failures, passivation, the bound, and the stop."""

import asyncio
from asyncio import Event, Future
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, NamedTuple, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callactors.actors import Actor, ActorRegistry, Envelope, Home, RegistryLimits
from callactors.errors import (
    ActorFailed,
    ActorStopped,
    Draining,
    MailboxFull,
    Overloaded,
    StorageUnavailable,
    Unavailable,
)

M = TypeVar("M")
Make = Callable[[str, Home[M]], Actor[str, M]]

HASTY: Final = RegistryLimits(idle_timeout=0.01)


@asynccontextmanager
async def registry_of(
    make: Make[M], limits: RegistryLimits | None = None, *, stop_timeout: float = 5.0
) -> AsyncIterator[ActorRegistry[str, M]]:
    """Run a registry, and see that it leaves neither actors nor tasks behind."""
    before = asyncio.all_tasks()
    registry = ActorRegistry(make, limits=limits)
    registry.start()
    try:
        yield registry
    finally:
        await registry.stop(timeout=stop_timeout)
    assert len(registry) == 0
    assert asyncio.all_tasks() == before


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Echo(Actor[str, int]):
    """Answers with the message."""

    async def receive(self, envelope: Envelope[int]) -> None:
        envelope.answer(envelope.message)


# Messages and answers


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


# Failures


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


# Passivation


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


# The bound on resident actors


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


# The stop


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


# Everything at once


class Step(NamedTuple):
    """One message of a random schedule, and what comes of it."""

    key: str
    act: Literal["answer", "answer later", "fail", "put back", "hold", "leave"]
    is_asked: bool
    is_given_up: bool
    pauses: int
    delay: int
    number: int = 0


steps = st.builds(
    Step,
    key=st.sampled_from("aabc"),
    act=st.sampled_from(["answer", "answer later", "fail", "put back", "hold", "leave"]),
    is_asked=st.booleans(),
    is_given_up=st.booleans(),
    pauses=st.integers(0, 3),
    delay=st.integers(0, 4),
)


class Scene:
    """What the erratic actors of one schedule have in common."""

    def __init__(self) -> None:
        self.actors: list[Erratic] = []
        self.alive: set[str] = set()
        self.received: dict[str, list[int]] = defaultdict(list)
        self.accepted: dict[str, list[int]] = defaultdict(list)
        self.replies: list[tuple[Step, Future[Any]]] = []

    def actor(self, key: str, home: Home[Step]) -> "Erratic":
        self.actors.append(Erratic(key, home, self))
        return self.actors[-1]

    async def play(self, schedule: list[Step], *, stop_timeout: float) -> None:
        limits = RegistryLimits(mailbox=4, resident=2)
        async with registry_of(self.actor, limits, stop_timeout=stop_timeout) as registry:
            for number, step in enumerate(schedule):
                self.send(registry, step._replace(number=number))
                await ticks(step.delay)
        for actor in self.actors:
            actor.return_held()  # what the stop left no time for

    def send(self, registry: ActorRegistry[str, Step], step: Step) -> None:
        try:
            if step.is_asked:
                reply = registry.ask(step.key, step)
                self.replies.append((step, reply))
                if step.is_given_up:
                    asyncio.get_running_loop().call_soon(reply.cancel)
            else:
                registry.tell(step.key, step)
        except (MailboxFull, Overloaded):
            return
        self.accepted[step.key].append(step.number)


class Erratic(Actor[str, Step]):
    """Does with each message what the message says."""

    def __init__(self, key: str, home: Home[Step], scene: Scene) -> None:
        super().__init__(key, home)
        self.scene = scene
        self.held: list[Envelope[Step]] = []

    async def on_start(self) -> None:
        assert self.key not in self.scene.alive
        self.scene.alive.add(self.key)
        await ticks(1)

    async def receive(self, envelope: Envelope[Step]) -> None:
        step = envelope.message
        is_new = envelope.tries == 0
        envelope.tries += 1
        if is_new:
            self.scene.received[self.key].append(step.number)
        await ticks(step.pauses)
        match step.act:
            case "fail":
                raise ValueError
            case "put back" if is_new:
                self.home.put_back([envelope])
            case "hold" if is_new:
                self.held.append(envelope)
            case "answer later":
                asyncio.get_running_loop().call_soon(envelope.answer, step.number)
            case "leave":
                self.home.leave()
                envelope.answer(step.number)
            case _:
                envelope.answer(step.number)
                self.return_held()

    async def on_failure(self, error: Exception, failures: int) -> None:
        await ticks(1)
        self.return_held()
        self.scene.alive.remove(self.key)

    async def on_stop(self) -> None:
        await ticks(2)
        self.return_held()
        await ticks(1)
        self.scene.alive.remove(self.key)

    def return_held(self) -> None:
        for envelope in self.held:
            self.home.put_back([envelope])
        self.held = []


@settings(deadline=None)
@given(st.lists(steps, max_size=40))
def test_every_asker_gets_one_answer_and_messages_keep_their_order(schedule: list[Step]) -> None:
    scene = Scene()
    asyncio.run(scene.play(schedule, stop_timeout=5))
    assert not scene.alive
    assert scene.received == scene.accepted
    for step, reply in scene.replies:
        if step.act == "fail" and not reply.cancelled():
            assert isinstance(reply.exception(), ActorFailed)
        elif not step.is_given_up:
            assert reply.result() == step.number


@settings(deadline=None)
@given(st.lists(steps, max_size=40))
def test_every_asker_gets_one_answer_when_the_stop_has_no_time(schedule: list[Step]) -> None:
    scene = Scene()
    asyncio.run(scene.play(schedule, stop_timeout=0))
    for key, received in scene.received.items():
        assert received == scene.accepted[key][: len(received)]
    for step, reply in scene.replies:
        assert reply.done()
        if not step.is_given_up and (error := reply.exception()) is not None:
            assert isinstance(error, ActorStopped | ActorFailed)
