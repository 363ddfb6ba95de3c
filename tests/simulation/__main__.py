"""Let simulated servers go through schedules of trouble, and check that nothing that was promised is broken.

    python -m tests.simulation [--schedules N] [--seed S]

Schedule i has the seed S + i, which makes all of it: what is sent, what breaks, how long things take, and who
has the next turn. At the first that fails its seed, what was violated, and a smaller one that fails too are
told, with all that happens in it; `--schedules 1 --seed` with that seed replays it. It ends with 1 then.
"""

import argparse
import gc
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.simulation.plan import Plan, make_plan
from tests.simulation.shrink import shrink
from tests.simulation.world import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the schedules, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--schedules", type=int, default=1_000, help="how many (1,000)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first (0)")
    chosen = parser.parse_args(arguments)
    gc.freeze()  # what is there by now stays
    gc.disable()
    began, counts, digest = time.perf_counter(), Counter[str](), hashlib.sha256()
    for seed in range(chosen.seed, chosen.seed + chosen.schedules):
        plan = make_plan(seed)
        report = run(plan)
        counts += report.counts
        digest.update(report.digest.encode())
        gc.collect(0)  # the circles a schedule leaves: cheapest while the processor still has them at hand
        if report.violations:
            gc.enable()
            print(f"seed {seed}:", *report.violations, sep="\n  ")
            tell_smaller(plan)
            return 1
    seconds = time.perf_counter() - began
    print(
        f"{chosen.schedules:,} schedules in {seconds:.1f} s, {60 * chosen.schedules / seconds:,.0f} a minute"
    )
    print(", ".join(f"{what} {count:,}" for what, count in sorted(counts.items())))
    print(f"all that happened has the hash {digest.hexdigest()[:16]}")
    return 0


def tell_smaller(plan: Plan) -> None:
    """Print the least of *plan* that still fails, and what happens in it."""
    smaller = shrink(plan)
    report = run(smaller)
    print("", "what is left of it, when all is left out without which it fails too:", smaller, "", sep="\n")
    for microseconds, *what in report.trace:
        print(f"  {microseconds / 1e6:.6f}", *what)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # or sets of strings would have an order of their own
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {
            **os.environ, "PYTHONHASHSEED": "0",
        })  # fmt: skip
    sys.exit(main())
