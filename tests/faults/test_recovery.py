"""The figures of a cluster's recovery are those of made-up faults."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.faults.evidence import Evidence, Fault, Op, Outcome
from tests.faults.recovery import Recovery, measure
from tests.faults.test_checkers import good

AT = 100.0


def sent(sent_at: float, ended_at: float | None, server: int, outcome: Outcome = Outcome.OK) -> Op:
    return Op(0, 0, "packet", "c", [], sent_at, server, ended_at, outcome)


def played(ops: Sequence[Op], *faults: Fault) -> Evidence:
    evidence = good()
    evidence.history.ops[:] = ops
    return replace(evidence, faults=faults or [Fault(AT, {"c": 1})])


def recovered(*ops: Op) -> Recovery:
    return measure(played(ops))


def test_a_packet_sent_before_the_fault_counts_from_the_fault() -> None:
    found = recovered(sent(99.0, 99.5, 0), sent(99.9, 100.5, 0))
    assert (found.firsts, found.nexts, found.refusals, found.usual) == ([0.5], [0.5], [], [0.5])


def test_a_packet_sent_later_counts_from_its_sending_elsewhere() -> None:
    failed = sent(101.0, 102.0, 1, Outcome.UNKNOWN)
    found = recovered(failed, sent(102.0, 103.0, 2, Outcome.REFUSED), sent(103.0, 103.25, 0))
    assert (found.firsts, found.nexts, found.refusals) == ([3.25], [1.25], [1.25])


@pytest.mark.parametrize(
    "other",
    [
        sent(100.0, 100.5, 1),
        sent(99.0, 99.5, 0),
        sent(100.0, None, 0),
        sent(100.0, 100.5, 0, Outcome.REFUSED),
        replace(sent(100.0, 100.5, 0), kind="conflict"),
        replace(sent(100.0, 100.5, 0), call_id="of nobody struck"),
    ],
)
def test_only_an_ack_of_the_call_from_another_server_after_the_fault_counts(other: Op) -> None:
    found = recovered(other)
    assert (found.faults, found.firsts, found.nexts) == (1, [], [])


def test_each_fault_has_its_own_acks_and_the_table_has_all() -> None:
    faults = [Fault(AT, {"c": 1}), Fault(AT + 1, {"c": 0}), Fault(AT + 2, {"c": 0, "d": 2})]
    ops = [sent(100.1, 100.4, 0), sent(101.1, 101.3, 0), sent(102.1, 102.3, 2), sent(102.3, 102.4, 1)]
    found = measure(played(ops, *faults))
    assert found.faults == 3
    assert found.firsts == pytest.approx([0.4, 0.3])
    assert found.nexts == pytest.approx([0.3, 0.2])
    assert found.row("kill") == (
        "kill                   3        -        - |    350 ms   400 ms |"
        "      2   250 ms   300 ms   300 ms |"
        "      0        -        -        -"
    )
