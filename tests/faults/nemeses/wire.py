"""What happens on the way to PostgreSQL."""

import asyncio
from typing import Final

from tests.faults.scene import Nemesis, Scene
from tests.proxy import Wire

_DEAF: Final = 0.5
_SWALLOWED: Final = 2.0
_REFUSED: Final = 1.5
_SLOW: Final = 1.5
_DELAY: Final = (0.05, 0.5)


async def drop_reply(scene: Scene) -> None:
    """Drop the reply to a commit, then cut the connections."""
    async with scene.fault():
        scene.proxy.dropped.clear()
        scene.proxy.wire = Wire.DEAF
        await scene.proxy.dropped.wait()
        await asyncio.sleep(scene.rng.uniform(0, _DEAF))
        scene.proxy.cut()
        scene.proxy.wire = Wire.PASS


async def swallow(scene: Scene) -> None:
    """Let nothing through in either direction and tell nobody, then cut the connections."""
    async with scene.fault():
        scene.proxy.wire = Wire.BLACK_HOLE
        await asyncio.sleep(_SWALLOWED)
        scene.proxy.cut()
        scene.proxy.wire = Wire.PASS


async def slow_down(scene: Scene) -> None:
    """Let all bytes come 50 to 500 ms later."""
    async with scene.fault():
        scene.proxy.delay = lambda: scene.rng.uniform(*_DELAY)
        await asyncio.sleep(_SLOW)
        scene.proxy.delay = None


async def cut(scene: Scene) -> None:
    """Reset all connections ten times in a second."""
    async with scene.fault():
        for _ in range(10):
            scene.proxy.cut()
            await asyncio.sleep(0.1)


async def refuse(scene: Scene) -> None:
    """Reset all connections and refuse new ones."""
    async with scene.fault():
        scene.proxy.refuse()
        await asyncio.sleep(_REFUSED)
        await scene.proxy.listen()


async def stop_without_database(scene: Scene) -> None:
    """SIGTERM the server while PostgreSQL cannot be reached, and start it again when it can."""
    async with scene.fault():
        scene.proxy.refuse()
        await asyncio.sleep(0.2)
        await scene.stop(scene.server)
        await scene.proxy.listen()
        await scene.server.start()


NEMESES: Final = (
    Nemesis(name="wire-deaf", strike=drop_reply, is_wired=True),
    Nemesis(name="wire-swallows", strike=swallow, is_wired=True),
    Nemesis(name="wire-slow", strike=slow_down, is_wired=True),
    Nemesis(name="wire-cut", strike=cut, is_wired=True),
    Nemesis(name="wire-refuses", strike=refuse, is_wired=True),
    Nemesis(
        name="wire-and-stop",
        strike=stop_without_database,
        is_wired=True,
        settings={"ack_timeout": 1, "drain_timeout": 1},
    ),
)
