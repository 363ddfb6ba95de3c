"""Break things on purpose and check that nothing that was promised is broken.

    python -m tests.faults [NEMESIS...] [--long] [--seeds N] [--seed S] [--keep DIR]

Each round has a nemesis, a database and servers of its own, and ends with all checkers. A row for each tells:
faults injected, operations, packets acknowledged, operations not answered, packets lost, stored twice and
invented, the longest time from the end of a fault to the next 202, and the checkers that went red. A seed
replays what is sent and what is broken, but not how the machine schedules it.

Of clusters a second table tells how long acks usually took before the first fault; from a fault to the first
ack, by another server, for a call of those that were struck; the same for each of these calls, or from when
it was sent to another server if that was later; and from a refusal, or a broken connection, to the ack.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from fnmatch import filter as matching
from pathlib import Path
from typing import Final, NamedTuple

from callactors.store.embedded import EmbeddedPostgres
from tests.faults.checkers import Counts, check, count
from tests.faults.nemeses import NEMESES
from tests.faults.recovery import HEAD, Recovery, measure
from tests.faults.scene import LONG, SHORT, Length, Nemesis, Scene

_FINDINGS: Final = 5
_NOTHING: Final = Counts(0, 0, 0, 0, 0, 0, None)
_HEAD: Final = (
    f"{'nemesis':<16}{'seed':>5}{'faults':>8}{'ops':>11}{'acked':>11}{'unknown':>9}{'lost':>6}{'doubled':>9}"
    f"{'invented':>10}{'first 202':>11}  red"
)


class Row(NamedTuple):
    """What came of a round."""

    nemesis: str
    seed: int
    faults: int
    counts: Counts
    red: dict[str, list[str]]
    recovery: Recovery | None = None

    @property
    def text(self) -> str:
        c, red = self.counts, " ".join(self.red) or "-"
        first_ack = "none" if c.first_ack is None else f"{c.first_ack:.2f} s"
        return (
            f"{self.nemesis:<16}{self.seed:>5}{self.faults:>8,}{c.operations:>11,}{c.acked:>11,}{c.unknown:>9,}"
            f"{c.lost:>6}{c.duplicated:>9}{c.invented:>10}{first_ack:>11}  {red}"
        )


async def play(
    nemesis: Nemesis, postgres: EmbeddedPostgres | None, seed: int, length: Length, keep: Path | None
) -> Row:
    """Play one round; on *postgres* unless the nemesis needs its own. *keep* gets what a red one has seen."""
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callactors-faults-")))
        place.chmod(0o711)  # PostgreSQL may have to run as another user
        if nemesis.postgres is not None:
            postgres = await stack.enter_async_context(nemesis.postgres(place))
        assert postgres is not None
        scene = Scene(nemesis, postgres, place, f"{seed}/{nemesis.name}", length)
        try:
            evidence = await scene.run()
            row = Row(nemesis.name, seed, scene.faults, count(evidence), check(evidence))
            if evidence.faults:
                row = row._replace(recovery=measure(evidence))
        except Exception:  # noqa: BLE001  # the other rounds go on
            traceback.print_exc()
            print(*[server.log[-3_000:] for server in scene.servers], sep="\n\n", file=sys.stderr)
            row = Row(nemesis.name, seed, scene.faults, _NOTHING, {"unfinished": []})
        if row.red and keep is not None:
            write_round(scene, keep / f"{nemesis.name}-{seed}")
        return row


def write_round(scene: Scene, place: Path) -> None:
    """Write the history into *place*, an operation a line of JSON, and the servers' logs beside it."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "history.jsonl").open("w") as file:
        file.writelines(json.dumps(asdict(op)) + "\n" for op in scene.history.ops)
    for number, server in enumerate(scene.servers):
        (place / f"server-{number}.log").write_text(server.log)
    print(f"    what was seen is in {place}", flush=True)


async def play_all(
    nemeses: Sequence[Nemesis], seeds: Sequence[int], length: Length, keep: Path | None
) -> list[Row]:
    """Play a round with each of *nemeses* and *seeds*, and print its row when it is over."""
    rows = []
    print(_HEAD, flush=True)
    async with EmbeddedPostgres(data_dir=None) as postgres:
        for seed in seeds:
            for nemesis in nemeses:
                if why := nemesis.lacks():
                    print(f"{nemesis.name:<16}{seed:>5}  left out: {why}", flush=True)
                    continue
                row = await play(nemesis, postgres, seed, length, keep)
                rows.append(row)
                print(row.text, flush=True)
                for name, findings in row.red.items():
                    for finding in findings[:_FINDINGS]:
                        print(f"    {name}: {finding[:200]}", flush=True)
    return rows


def total(rows: Sequence[Row], seconds: float) -> str:
    """Return the last lines of the table."""
    counts = [row.counts for row in rows]
    summed = Row(
        "all",
        len({row.seed for row in rows}),
        sum(row.faults for row in rows),
        Counts(
            operations=sum(c.operations for c in counts),
            acked=sum(c.acked for c in counts),
            unknown=sum(c.unknown for c in counts),
            lost=sum(c.lost for c in counts),
            duplicated=sum(c.duplicated for c in counts),
            invented=sum(c.invented for c in counts),
            first_ack=max((c.first_ack for c in counts if c.first_ack is not None), default=None),
        ),
        {name: [] for row in rows for name in row.red},
    )
    return f"{summed.text}\n{len(rows)} rounds in {seconds:.0f} s"


def tell_recovery(rows: Sequence[Row]) -> str:
    """Return how clusters recovered, a line for each nemesis; no text if there was none."""
    found: dict[str, Recovery] = {}
    for row in rows:
        if row.recovery is not None:
            found.setdefault(row.nemesis, Recovery()).add(row.recovery)
    lines = [recovery.row(name) for name, recovery in found.items()]
    return "\n".join([HEAD, *lines]) if lines else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play and print; 0 if no checker went red."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {nemesis.name:<16}{nemesis.line}" for nemesis in NEMESES),
    )
    parser.add_argument(
        "nemesis",
        nargs="*",
        help="which to play, as 'pg-*' several; by default all of --long, else those that no other covers",
    )
    parser.add_argument("--long", action="store_true", help="break things for 30 s in a round, not 2.5")
    parser.add_argument("--seeds", type=int, default=1, help="how many rounds of each")
    parser.add_argument("--seed", type=int, default=1, help="the first one's seed")
    parser.add_argument(
        "--keep", type=Path, help="write histories and logs of red rounds into this directory"
    )
    options = parser.parse_args(arguments)
    known = {nemesis.name: nemesis for nemesis in NEMESES}
    if unknown := [name for name in options.nemesis if not matching(known, name)]:
        parser.error(f"no such nemesis: {', '.join(unknown)}; --help has their names")
    chosen = [known[found] for name in options.nemesis for found in matching(known, name)] or [
        nemesis for nemesis in NEMESES if options.long or not nemesis.is_covered
    ]
    seeds = range(options.seed, options.seed + options.seeds)
    begin = time.monotonic()
    rows = asyncio.run(play_all(chosen, seeds, LONG if options.long else SHORT, options.keep))
    if rows:
        print(total(rows, time.monotonic() - begin))
    if recoveries := tell_recovery(rows):
        print(recoveries)
    return 1 if any(row.red for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
