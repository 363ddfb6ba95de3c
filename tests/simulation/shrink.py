"""A plan that fails, made smaller as long as it still fails."""

from collections.abc import Callable
from dataclasses import fields, replace

from tests.simulation.plan import Conditions, Plan
from tests.simulation.world import run


def fails(plan: Plan) -> bool:
    """Whether *plan* violates anything."""
    return bool(run(plan).violations)


def shrink(plan: Plan, is_bad: Callable[[Plan], bool] = fails) -> Plan:
    """Return a plan with fewer faults and operations, in plainer conditions, that *is_bad* too."""
    before: Plan | None = None
    while plan != before:
        before = plan
        for part in ("faults", "operations"):
            plan = _leave_out(plan, part, is_bad)
        plan = _make_plain(plan, is_bad)
    return plan


def _leave_out(plan: Plan, part: str, is_bad: Callable[[Plan], bool]) -> Plan:
    """Return *plan* with as little of *part* as will do: halves are left out, then quarters, and so on."""
    size = max(1, len(getattr(plan, part)) // 2)
    while True:
        start = 0
        while start < len(items := getattr(plan, part)):
            smaller = replace(plan, **{part: items[:start] + items[start + size :]})
            if is_bad(smaller):
                plan = smaller
            else:
                start += size
        if size == 1:
            return plan
        size //= 2


def _make_plain(plan: Plan, is_bad: Callable[[Plan], bool]) -> Plan:
    """Return *plan* in conditions that are the usual ones wherever that will do."""
    usual = Conditions()
    for field in fields(Conditions):
        if field.name == "servers":  # operations and faults name them
            continue
        conditions = replace(plan.conditions, **{field.name: getattr(usual, field.name)})
        if conditions != plan.conditions and is_bad(replace(plan, conditions=conditions)):
            plan = replace(plan, conditions=conditions)
    return plan
