"""What happens to three servers that are one cluster, and to the NATS server between them."""

import asyncio
import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from tests.faults.evidence import Expected
from tests.faults.nemeses import postgres
from tests.faults.scene import Nemesis, Scene
from tests.proxy import Wire

Strike = Callable[[Scene], Awaitable[None]]

_AWAY: Final = 1.0
_FROZEN: Final = 4.5  # longer than the lease
_CUT_OFF: Final = 2.5
_STALL: Final = 30.0  # longer than the watchdog waits
_ENDED_ITSELF: Final = 70
_REST: Final = 0.1  # seconds: of the few cores, servers that start need one
_WATCHDOG: Final = r" callactors\.watchdog: the event loop has stood still"


async def kill(scene: Scene) -> None:
    """Kill -9 one of three servers and start it again a while later."""
    server = scene.rng.choice(scene.servers)
    async with scene.fault(server):
        await server.kill()
        await asyncio.sleep(_AWAY)
        await server.start()
    await scene.until_joined()


async def freeze(scene: Scene) -> None:
    """SIGSTOP one of three servers for longer than its lease: the others have its calls when it wakes up."""
    server = scene.rng.choice(scene.servers)
    async with scene.fault(server):
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(_FROZEN)
        server.signal(signal.SIGCONT)
    await scene.until_joined()


async def stall(scene: Scene) -> None:
    """Stall the event loop of one of three servers, which ends itself for that, and start it again."""
    server = scene.rng.choice(scene.servers)
    async with scene.fault(server):
        server.signal(signal.SIGUSR1)
        code = await server.wait()
        assert code == _ENDED_ITSELF, code
        await server.start()
    await scene.until_joined()


async def roll(scene: Scene) -> None:
    """SIGTERM three servers one after the other, and start each again before the next."""
    for server in scene.servers:
        async with scene.fault(server):
            await scene.stop(server)
            await server.start()
        await scene.until_joined()


async def kill_nats(scene: Scene) -> None:
    """Kill -9 the NATS server and start it again a while later."""
    async with scene.fault():
        await scene.nats.kill()
        await asyncio.sleep(_AWAY)
        await scene.nats.start()
    await scene.until_joined()


async def freeze_nats(scene: Scene) -> None:
    """SIGSTOP the NATS server for some seconds."""
    async with scene.fault():
        await scene.nats.freeze()
        await asyncio.sleep(_CUT_OFF)
        scene.nats.thaw()
    await scene.until_joined()


async def cut_off(scene: Scene) -> None:
    """Let nothing through between one of three servers and NATS, and tell nobody, then cut the connection."""
    number = scene.rng.randrange(len(scene.servers))
    wire = scene.wires[number]
    async with scene.fault(scene.servers[number]):
        wire.wire = Wire.BLACK_HOLE
        await asyncio.sleep(_CUT_OFF)
        wire.cut()
        wire.wire = Wire.PASS
    await scene.until_joined()


async def restart_postgres(scene: Scene) -> None:
    """Shut PostgreSQL down in order, or kill -9 it, below three servers, and start it again."""
    await scene.rng.choice((postgres.restart_fast, postgres.kill_postmaster))(scene)
    await scene.until_joined()


async def strike_anywhere(scene: Scene) -> None:
    """Do any of this to a cluster, one after the other."""
    await scene.choose(_ANY)(scene)


def lacks_nats() -> str | None:
    """Return why no cluster can be made here."""
    return None if shutil.which("nats-server") else "there is no nats-server here"


def _cluster(name: str, strike: Strike, **options: Any) -> Nemesis:
    nemesis = Nemesis(name=name, strike=strike, servers=3, is_cluster=True, lacks=lacks_nats)
    return replace(nemesis, **{"patience": 2.0, "rest": _REST, **options})


_ANY: Final = (kill, freeze, roll, kill_nats, freeze_nats, cut_off, restart_postgres)
_PROGRESS: Final = Expected(progress=50)
_LITTLE: Final = (
    0.75  # seconds of a sender's patience: what waits at who stands still is no time of the others
)

NEMESES: Final = (
    _cluster("cluster-kill", kill, expected=_PROGRESS),
    _cluster("cluster-freeze", freeze, patience=_LITTLE),
    _cluster("cluster-stall", stall, extra={"FAULTS_STALL": str(_STALL)}, known=_WATCHDOG),
    _cluster("cluster-roll", roll, expected=_PROGRESS),
    _cluster("cluster-pg", restart_postgres, is_covered=True),
    _cluster("nats-kill", kill_nats, expected=_PROGRESS, is_covered=True),
    _cluster("nats-freeze", freeze_nats, is_covered=True),
    _cluster("nats-cut", cut_off, is_wired=True, expected=_PROGRESS),
    _cluster("cluster-storm", strike_anywhere, is_wired=True, rest=0.0),
)
