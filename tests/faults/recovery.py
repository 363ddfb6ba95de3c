"""How soon the others of a cluster go on with the calls of servers that were struck. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, TypeAlias

from tests.faults.evidence import Evidence, Fault, Op, Outcome

_QUANTILES: Final = f"{'median':>9}{'p99':>9}{'worst':>9}"
HEAD: Final = (
    f"{'usual ack':>42} |{'first ack elsewhere':>19} |{'next ack of a call, elsewhere':>34} |"
    f"{'from refusal to ack':>34}\n"
    f"{'nemesis':<17}{'faults':>7}{'median':>9}{'p99':>9} |{'median':>10}{'worst':>9} |"
    f"{'calls':>7}{_QUANTILES} |{'packets':>7}{_QUANTILES}"
)
_KINDS: Final = frozenset({"packet", "body", "frame"})

Passage: TypeAlias = Sequence[Op]
"""How what was to be sent of a call next came to its ack: the operations up to the one that went well."""


@dataclass(slots=True)
class Recovery:
    """All of the faults of one nemesis, in seconds."""

    faults: int = 0
    usual: list[float] = field(default_factory=list)
    """From the sending of what was not refused to its ack, before the first fault."""
    firsts: list[float] = field(default_factory=list)
    """From each fault to the first ack for a call of the struck, by a server that did not have it."""
    nexts: list[float] = field(default_factory=list)
    """The same for each of these calls, or from when it was sent to another server if that was later."""
    refusals: list[float] = field(default_factory=list)
    """From the first refusal, or broken connection, to the ack: of any call, at any server."""

    def add(self, other: "Recovery") -> None:
        """Take the faults of *other* in."""
        self.faults += other.faults
        self.usual += other.usual
        self.firsts += other.firsts
        self.nexts += other.nexts
        self.refusals += other.refusals

    def row(self, name: str) -> str:
        """Return a line of the table under HEAD."""
        return (
            f"{name:<17}{self.faults:>7}{_tell(self.usual, 0.5, 0.99)} | {_tell(self.firsts, 0.5, 1)} |"
            f"{len(self.nexts):>7}"
            f"{_tell(self.nexts, 0.5, 0.99, 1)} |{len(self.refusals):>7}{_tell(self.refusals, 0.5, 0.99, 1)}"
        )


def measure(evidence: Evidence) -> Recovery:
    """Return how a round's faults were recovered from."""
    passages = find_passages(evidence.history.ops)
    found = Recovery(usual=[*_find_usual(evidence.faults[0].at, passages)])
    ends = [*(fault.at for fault in evidence.faults[1:]), math.inf]
    for fault, end in zip(evidence.faults, ends, strict=True):
        nexts = [*_find_nexts(fault, end, passages)]
        found.faults += 1
        found.firsts += [min(ended_at for _, ended_at in nexts) - fault.at] if nexts else []
        found.nexts += [ended_at - max(fault.at, sent_at) for sent_at, ended_at in nexts]
        found.refusals += _find_refusals(fault, end, passages)
    return found


def find_passages(ops: Iterable[Op]) -> Mapping[str, Sequence[Passage]]:
    """Return those of each call, one after the other: what was refused goes first when the call is next."""
    found: defaultdict[str, list[list[Op]]] = defaultdict(lambda: [[]])
    for op in ops:
        if op.kind in _KINDS and op.ended_at is not None:
            found[op.call_id][-1].append(op)
            if op.outcome is Outcome.OK:
                found[op.call_id].append([])
    return {call_id: passages[:-1] for call_id, passages in found.items()}


def _find_usual(before: float, passages: Mapping[str, Sequence[Passage]]) -> Iterator[float]:
    for passage in (one for of_call in passages.values() for one in of_call if len(one) == 1):
        ended_at = passage[0].ended_at
        assert ended_at is not None
        if ended_at < before:
            yield ended_at - passage[0].sent_at


def _find_nexts(
    fault: Fault, end: float, passages: Mapping[str, Sequence[Passage]]
) -> Iterator[tuple[float, float]]:
    """Yield when the next passage of each call elsewhere began there, and when it ended."""
    for call_id, owner in fault.owners.items():
        for passage in passages.get(call_id, ()):
            last = passage[-1]
            assert last.ended_at is not None
            if fault.at < last.ended_at < end and last.server != owner:
                yield min(op.sent_at for op in passage if op.server != owner), last.ended_at
                break


def _find_refusals(fault: Fault, end: float, passages: Mapping[str, Sequence[Passage]]) -> Iterator[float]:
    for first, *_, last in (one for of_call in passages.values() for one in of_call if len(one) > 1):
        assert first.ended_at is not None
        assert last.ended_at is not None
        if fault.at <= first.ended_at < end:
            yield last.ended_at - first.ended_at


def _tell(found: Sequence[float], *shares: float) -> str:
    """Return the quantiles of *found*."""
    if not found:
        return f"{'-':>9}" * len(shares)
    ordered = sorted(found)
    told = [median(found) if share == 0.5 else ordered[math.ceil(len(found) * share) - 1] for share in shares]
    return "".join(f"{value * 1_000:>6,.0f} ms" for value in told)
