"""Everything at once, in random order."""

import asyncio
from asyncio import Future
from collections import defaultdict
from typing import Any, Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from callactors.actors import Actor, ActorRegistry, Envelope, Home, RegistryLimits
from callactors.errors import (
    ActorFailed,
    ActorStopped,
    MailboxFull,
    Overloaded,
)
from tests.actor_scenes import registry_of, ticks


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
