"""Break the code on purpose and tell after how many schedules the simulation notices.

    python -m tests.simulation.mutate [--most N] [NAME...]

Each mutant is a text of a module that is replaced as the module is imported, in a process of its own. It ends
with 1 if one survives that is not known to change nothing.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

from tests.simulation.mutants import HARMLESS, MUTANTS, Mutant


class Mutating(SourceFileLoader):
    """Loads a module with a text of it replaced."""

    def __init__(self, mutant: Mutant, path: str) -> None:
        super().__init__(mutant.module, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        """Compile what the source has become; the cache knows only the original."""
        source, mutant = self.get_data(self.path).decode(), self._mutant
        if source.count(mutant.old) != 1:
            raise ImportError(f"{mutant.name}: what it replaces is not there once in {fullname}")
        return compile(source.replace(mutant.old, mutant.new), self.path, "exec", dont_inherit=True)


class MutantFinder(MetaPathFinder):
    """Finds the module that a mutant is of."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the module, broken."""
        spec = PathFinder.find_spec(fullname, path) if fullname == self._mutant.module else None
        if spec is not None and spec.origin is not None:
            spec.loader = Mutating(self._mutant, spec.origin)
        return spec


def find(mutant: Mutant, most: int) -> tuple[int, str] | None:
    """Return after how many schedules *mutant* is noticed, and as what; in this very process."""
    sys.meta_path.insert(0, MutantFinder(mutant))
    from tests.simulation.plan import make_plan  # noqa: PLC0415  # not before the finder is there
    from tests.simulation.world import run  # noqa: PLC0415

    for seed in range(most):
        if violations := run(make_plan(seed)).violations:
            return seed + 1, violations[0]
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.mutate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="which mutants (all)")
    parser.add_argument("--most", type=int, default=10_000, help="schedules until it has survived (10,000)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    mutants = [mutant for mutant in MUTANTS if not chosen.names or mutant.name in chosen.names]
    if chosen.here:
        found = find(mutants[0], chosen.most)
        print("survives" if found is None else f"{found[0]:>6,}  {found[1][:70]}")
        return found is None
    survivors = set()
    for mutant in mutants:
        command = [sys.executable, "-m", "tests.simulation.mutate", "--here", "--most", str(chosen.most)]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        child = subprocess.run(
            [*command, mutant.name], env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        print(f"{mutant.name:<58}{child.stdout.strip()}", flush=True)
        if child.returncode:
            survivors.add(mutant.name)
    return bool(survivors - HARMLESS)


if __name__ == "__main__":
    sys.exit(main())
