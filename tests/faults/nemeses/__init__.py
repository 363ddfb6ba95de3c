"""Everything that is broken on purpose."""

from typing import Final

from tests.faults.evidence import Expected
from tests.faults.nemeses import clock, cluster, peers, postgres, process, wire
from tests.faults.scene import Nemesis, Scene

_ANY: Final = (
    process.kill,
    process.terminate,
    process.freeze,
    process.stall,
    *(nemesis.strike for nemesis in postgres.NEMESES if nemesis.postgres is None),
    *(nemesis.strike for nemesis in wire.NEMESES),
    peers.lose_provider,
    peers.crowd,
    peers.abort_requests,
)


async def strike_anywhere(scene: Scene) -> None:
    """Do any of the others' deeds, one after the other."""
    await scene.choose(_ANY)(scene)


STORM: Final = Nemesis(
    name="storm",
    strike=strike_anywhere,
    is_wired=True,
    settings={"drain_timeout": 1},  # one of them stops the server while PostgreSQL cannot be reached
    expected=Expected(longest_op=None),
)

NEMESES: Final = (
    *process.NEMESES,
    *postgres.NEMESES,
    *wire.NEMESES,
    *clock.NEMESES,
    *peers.NEMESES,
    STORM,
    *cluster.NEMESES,
)
