"""Break the package on purpose, and see that the tests notice.

    python -m tests.mutants [NAME...] [--table]

Each mutant is one small change of a copy of the package. The tests named for it must pass on the copy before
the change and fail after it: a test that cannot be collected, set up or ended says nothing. A mutant that
survives is a test that is missing.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.mutants import MUTANTS
from tests.mutants.mutant import Mutant, make_table
from tests.mutants.trial import try_mutant, try_unchanged


def survives(mutant: Mutant) -> bool:
    """Try *mutant*, print what came of it, and return whether a test named for it has not failed."""
    begin = time.monotonic()
    trial = try_mutant(mutant)
    passed = [test for test in mutant.tests if test not in trial.failed]
    verdict = "SURVIVES" if passed else "red"
    print(f"{mutant.name:<24}{verdict:<10}{time.monotonic() - begin:>5.1f} s", flush=True)
    for test in mutant.tests:
        print(f"    {test}: {trial.failed.get(test, 'PASSED')}", flush=True)
    if trial.trouble is not None:
        print(f"    {trial.trouble}", flush=True)
    return bool(passed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try and print; 0 if no mutant survives."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {mutant.name:<24}{mutant.breaks}" for mutant in MUTANTS),
    )
    parser.add_argument("name", nargs="*", help="which to try; all by default")
    parser.add_argument("--table", action="store_true", help="print the table of the docs, and try nothing")
    options = parser.parse_args(arguments)
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in options.name if name not in known]:
        parser.error(f"no such mutant: {', '.join(unknown)}; --help has their names")
    chosen = [known[name] for name in options.name] or list(MUTANTS)
    if options.table:
        print(make_table(chosen))
        return 0
    if (trouble := try_unchanged(chosen)) is not None:
        print(trouble)
        return 1
    begin = time.monotonic()
    survivors = [mutant for mutant in chosen if survives(mutant)]
    print(f"{len(chosen)} mutants, {len(survivors)} survive, in {time.monotonic() - begin:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
