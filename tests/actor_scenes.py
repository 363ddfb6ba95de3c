"""What the tests of the registry share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from callactors.actors import Actor, ActorRegistry, Envelope, Home, RegistryLimits

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
