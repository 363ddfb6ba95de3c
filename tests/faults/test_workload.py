"""What the senders of the fault suite send is as unruly as it is meant to be."""

import random
from collections import Counter
from itertools import pairwise

from tests.faults.workload import REORDERED, REPEATED, WAYS, make_plan

PLANS = [make_plan(f"call-{n}", 40, random.Random(n)) for n in range(300)]


def test_a_fifth_of_the_packets_comes_twice_and_none_is_left_out() -> None:
    for plan in PLANS:
        counts = Counter(key for key, _ in plan.waiting)
        assert (len(counts), counts.total()) == (40, 40 + 40 * REPEATED)
        assert max(counts.values()) == 2


def test_packets_come_out_of_order_in_about_as_many_places_as_are_meant_to() -> None:
    falls = total = 0
    for plan in PLANS:
        streams: dict[str, list[int]] = {}
        for key, _ in plan.waiting:
            streams.setdefault(key.stream, []).append(key.sequence)
        falls += sum(b < a for numbers in streams.values() for a, b in pairwise(numbers))
        total += len(plan.waiting)
    assert REORDERED / 3 < falls / total < REORDERED * 2


def test_calls_differ_in_streams_in_the_way_they_are_sent_and_in_how_they_end() -> None:
    assert {plan.way for plan in PLANS} == set(WAYS)
    assert {len({key.stream for key, _ in plan.waiting}) for plan in PLANS} == {1, 2, 3}
    assert {bool(plan.last_sequence) for plan in PLANS} == {True, False}
    assert {plan.more is None for plan in PLANS} == {True, False}


def test_a_seed_makes_the_same_call_again() -> None:
    again = make_plan("call-7", 40, random.Random(7))
    assert again == PLANS[7]
    assert make_plan("call-7", 40, random.Random(8)) != again
