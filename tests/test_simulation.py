"""The simulation: some hundred schedules, and that it replays, shrinks, and notices."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.plan import Deed, Plan, Trouble, make_plan
from tests.simulation.shrink import shrink
from tests.simulation.world import run

SCHEDULES: Final = 300
CERTAIN: Final = (
    "answered before the commit",
    "an attempt begins before it is stored",
    "what is overtaken is acted upon",
    "what was decided on top of a refused change is kept",
)


def command(*arguments: str, hash_seed: str = "random") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-m", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_servers_keep_what_they_promise_under_schedules_of_trouble() -> None:
    failed = {seed: found for seed in range(SCHEDULES) if (found := run(make_plan(seed)).violations)}
    assert failed == {}, "python -m tests.simulation --schedules 1 --seed with one of these tells more"


def test_a_seed_makes_the_same_happen_again() -> None:
    for seed in range(20):
        first, again = run(make_plan(seed)), run(make_plan(seed))
        assert first.trace == again.trace
        assert first.digest == again.digest


def test_a_seed_makes_the_same_happen_in_another_process() -> None:
    told = [command("tests.simulation", "--schedules", "40", hash_seed=str(one)) for one in (1, 2)]
    assert [one.returncode for one in told] == [0, 0], told[0].stdout
    first, again = [one.stdout.splitlines()[1:] for one in told]
    assert first == again


def test_plans_have_all_kinds_of_trouble_and_deeds() -> None:
    plans = [make_plan(seed) for seed in range(SCHEDULES)]
    assert {fault.trouble for plan in plans for fault in plan.faults} == set(Trouble)
    assert {operation.deed for plan in plans for operation in plan.operations} == set(Deed)


def test_a_plan_shrinks_to_what_it_fails_for() -> None:
    def is_bad(plan: Plan) -> bool:
        has_crash = any(fault.trouble is Trouble.CRASH for fault in plan.faults)
        return has_crash and sum(operation.deed is Deed.COMPLETE for operation in plan.operations) >= 2

    plan = next(plan for seed in range(1_000) if is_bad(plan := make_plan(seed)))
    smaller = shrink(plan, is_bad)
    assert [fault.trouble for fault in smaller.faults] == [Trouble.CRASH]
    assert [operation.deed for operation in smaller.operations] == [Deed.COMPLETE] * 2
    assert smaller.conditions.mailbox == 256


@pytest.mark.parametrize("name", CERTAIN)
def test_what_is_broken_is_noticed(name: str) -> None:
    told = command("tests.simulation.mutate", "--most", "300", name)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_replaces_a_text_that_is_there_once(mutant: Mutant) -> None:
    spec = find_spec(mutant.module)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new
