"""What happens to the server's process."""

import asyncio
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.acceptance.client import NO_ANSWER, Client
from tests.acceptance.supervisor import Supervisor
from tests.faults.evidence import Expected
from tests.faults.nemeses.postgres import end_connections
from tests.faults.scene import Nemesis, Scene
from tests.faults.served import EXIT_CODE, FAILPOINTS

_STOPPED: Final = 2.0
_LONGER_THAN_THE_LEASE: Final = 4.5
_PASSES: Final = 60
_STALLED: Final = 1.5
_FEW_FILES: Final = 1.5


async def kill(scene: Scene) -> None:
    """Kill -9 the server and start it again."""
    async with scene.fault():
        server = scene.rng.choice(scene.servers)
        await server.restart()


async def terminate(scene: Scene) -> None:
    """SIGTERM the server under load and start it again."""
    async with scene.fault():
        server = scene.rng.choice(scene.servers)
        await scene.stop(server)
        await server.start()


async def freeze(scene: Scene) -> None:
    """SIGSTOP the server for some seconds."""
    await _freeze(scene, _STOPPED)


async def take_over(scene: Scene) -> None:
    """SIGSTOP one of two servers for longer than its lease: the other takes its calls before it wakes up."""
    await _freeze(scene, _LONGER_THAN_THE_LEASE)


async def _freeze(scene: Scene, seconds: float) -> None:
    async with scene.fault():
        server = scene.rng.choice(scene.servers)
        server.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        server.signal(signal.SIGCONT)


async def fight(scene: Scene) -> None:
    """Let two servers on one database take each other's calls, packet by packet."""
    async with scene.fault():
        await asyncio.sleep(0.5)


async def stall(scene: Scene) -> None:
    """Stall the server's event loop."""
    async with scene.fault():
        scene.rng.choice(scene.servers).signal(signal.SIGUSR1)
        await asyncio.sleep(float(scene.nemesis.extra.get("FAULTS_STALL", _STALLED)))


async def stall_one_of_two(scene: Scene) -> None:
    """Stall the event loop of one of two servers for longer than its lease: the other takes its calls."""
    await stall(scene)


async def kill_one_of_two(scene: Scene) -> None:
    """Kill -9 one of two servers and start it again."""
    await kill(scene)


async def crash_at_a_point(scene: Scene) -> None:
    """Let the server end itself around a commit, a claim, a publication or an answer of the AI."""
    server = scene.server
    point = scene.choose(sorted(FAILPOINTS))
    passes = 1 if point == "mid_snapshot" else scene.rng.randint(1, _PASSES)
    async with scene.fault():
        await server.kill()
        server.extra["FAULTS_FAILPOINT"] = f"{point}:{passes}"
        await server.spawn()  # it may come to the point before it listens
        asking = asyncio.create_task(_ask_for_snapshots(scene))
        code = await server.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert code == EXIT_CODE, f"{point}: {code}"
        del server.extra["FAULTS_FAILPOINT"]
        await server.start()


async def _ask_for_snapshots(scene: Scene) -> None:
    async with Client(scene.server) as client:
        while True:
            with suppress(*NO_ANSWER):
                supervisor = await Supervisor(client).connect(snapshot="1")
                await supervisor.next()
                await supervisor.close()
            await asyncio.sleep(0.1)


async def take_files(scene: Scene) -> None:
    """Leave the server no file descriptor for a new connection, and break those that it has to PostgreSQL."""
    pid = scene.server.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    async with scene.fault():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_lowest_free(pid), limits[1]))
        await end_connections(scene)
        await asyncio.sleep(_FEW_FILES)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def _lowest_free(pid: int) -> int:
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in range(len(taken) + 1) if number not in taken)


_PATIENT: Final = Expected(longest_op=None)

NEMESES: Final = (
    Nemesis(name="kill", strike=kill),
    Nemesis(name="terminate", strike=terminate),
    Nemesis(name="freeze", strike=freeze, expected=_PATIENT),
    Nemesis(name="stall", strike=stall, extra={"FAULTS_STALL": str(_STALLED)}, expected=_PATIENT),
    Nemesis(name="failpoints", strike=crash_at_a_point),
    Nemesis(
        name="files",
        strike=take_files,
        known=r"socket\.accept\(\) out of system resource|Too many open files",
        expected=Expected(first_ack=4.0),
    ),
    Nemesis(name="fight", strike=fight, servers=2),
    Nemesis(name="take-over", strike=take_over, servers=2, expected=_PATIENT),
    Nemesis(
        name="stall-of-two",
        strike=stall_one_of_two,
        servers=2,
        extra={"FAULTS_STALL": "10"},
        expected=_PATIENT,
    ),
    Nemesis(name="kill-of-two", strike=kill_one_of_two, servers=2),
)
