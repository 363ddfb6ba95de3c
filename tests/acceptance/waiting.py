"""Waiting for what no event tells: look again until it is so, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

_INTERVAL: Final = 0.02


async def eventually(claim: Callable[[], Awaitable[object]], *, within: float = 20.0) -> None:
    """Return when *claim* holds, or raise TimeoutError after *within* seconds."""
    async with asyncio.timeout(within):
        while True:
            if await claim():
                return
            await asyncio.sleep(_INTERVAL)


async def always(claim: Callable[[], Awaitable[object]], *, during: float) -> None:
    """Look at *claim* again and again *during* so many seconds, and fail when it does not hold."""
    loop = asyncio.get_running_loop()
    end = loop.time() + during
    while loop.time() < end:
        assert await claim()
        await asyncio.sleep(_INTERVAL * 5)
