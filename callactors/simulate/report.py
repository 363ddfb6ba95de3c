"""What the commands print at their end."""

import json
from collections import Counter
from typing import Any, Final

from callactors.simulate.calls import Plan, Report
from callactors.simulate.replay import Played

_MOST_TOLD: Final = 10
_COLUMNS: Final = {
    "calls": "calls",
    "messages": "messages",
    "lost": "lost on purpose",
    "missing": "missing seen",
    "mismatches": "mismatches",
    "lateness_p99": "sender late p99",
    "refused": "refused",
}


def make_table(plan: Plan, report: Report) -> str:
    """Return *report* for people."""
    figures = _figures(plan, report)
    if (late := figures["lateness_p99"]) is not None:
        figures["lateness_p99"] = f"{late * 1_000:.1f} ms"
    cells = ["-" if figures[name] is None else str(figures[name]) for name in _COLUMNS]
    widths = [max(len(title), len(cell)) for title, cell in zip(_COLUMNS.values(), cells, strict=True)]
    rows = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (_COLUMNS.values(), cells)
    ]
    spent = (
        f"{plan.vendor}, seed {plan.seed}: {figures['seconds']:.1f} s of sending took {figures['cpu']:.1f} s"
        " of this client's CPU"
    )
    return "\n".join([*rows, "", spent, *_tell_refusals(report.refused), *_tell_differences(report)])


def make_json(plan: Plan, report: Report) -> str:
    """Return *report* for programs, in one line."""
    told = {"differences": [difference._asdict() for difference in report.differences[:_MOST_TOLD]]}
    return json.dumps(_figures(plan, report) | {"refusals": report.refused} | told)


def tell_played(played: Played) -> str:
    """Return what was played, for people."""
    lines = [f"{played.messages} messages were sent on {played.connections} connections"]
    lines += [f"closed early, {count} times: {reason}" for reason, count in played.closed_early.items()]
    return "\n".join([*lines, *_tell_refusals(played.refused)])


def _figures(plan: Plan, report: Report) -> dict[str, Any]:
    lateness = report.lateness
    return {
        "vendor": plan.vendor,
        "seed": plan.seed,
        "run": plan.run,
        "calls": plan.calls,
        "messages": report.messages,
        "packets": sum(ledger.packets for ledger in report.ledgers),
        "lost": sum(ledger.lost for ledger in report.ledgers),
        "missing": report.missing,
        "cut": sum(ledger.is_cut for ledger in report.ledgers),
        "mismatches": len(report.differences),
        "refused": report.refused.total(),
        "lateness_p99": lateness[len(lateness) * 99 // 100] if lateness else None,
        "seconds": report.sending_time,
        "cpu": report.sending_cpu,
        "agrees": report.agrees,
    }


def _tell_refusals(refused: Counter[str]) -> list[str]:
    return [f"refused, {count} times: {reason}" for reason, count in refused.items()]


def _tell_differences(report: Report) -> list[str]:
    told = [str(difference) for difference in report.differences[:_MOST_TOLD]]
    more = len(report.differences) - len(told)
    return told + ([f"and {more} more"] if more else [])
