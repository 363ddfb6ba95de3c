"""Gaps and duplicates of a stream, against a model that is nothing but the set of what was received."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callactors.packets import MAX_SEQUENCE
from callactors.sequence import Range, StreamSequence

few = st.lists(st.integers(0, 30), max_size=40)
huge = st.lists(
    st.one_of(st.integers(0, MAX_SEQUENCE), st.integers(0, 5), st.integers(MAX_SEQUENCE - 5, MAX_SEQUENCE))
)


def receive(sequences: Iterable[int]) -> StreamSequence:
    """Return the state of a stream after *sequences*; a duplicate is left out, as a call does."""
    stream = StreamSequence()
    for sequence in sequences:
        if not stream.has(sequence):
            stream = stream.add(sequence)
    return stream


def members(gaps: Sequence[Range]) -> set[int]:
    return {sequence for first, last in gaps for sequence in range(first, last + 1)}


def are_apart(gaps: Sequence[Range]) -> bool:
    """Whether *gaps* are in order, none is empty, and none touches the next."""
    return all(first <= last for first, last in gaps) and all(a[1] + 1 < b[0] for a, b in pairwise(gaps))


@given(few)
def test_a_stream_has_what_it_received_in_any_order_with_duplicates_and_loss(sequences: list[int]) -> None:
    stream = receive(sequences)
    assert {sequence for sequence in range(32) if stream.has(sequence)} == set(sequences)


@given(few)
def test_whether_a_sequence_is_a_duplicate_is_known_at_each_step(sequences: list[int]) -> None:
    stream, received = StreamSequence(), set[int]()
    for sequence in sequences:
        assert stream.has(sequence) == (sequence in received)
        stream = stream if stream.has(sequence) else stream.add(sequence)
        received.add(sequence)


@given(few)
def test_gaps_are_what_is_missing_below_the_highest(sequences: list[int]) -> None:
    stream = receive(sequences)
    assert members(stream.gaps) == set(range(1, max(sequences, default=0))) - set(sequences)
    assert are_apart(stream.gaps)


@given(few)
def test_next_is_one_above_the_highest(sequences: list[int]) -> None:
    assert receive(sequences).next == max(sequences, default=-1) + 1


@given(few)
def test_order_of_arrival_leaves_no_trace(sequences: list[int]) -> None:
    assert receive(sequences) == receive(sorted(sequences))


@given(few, st.integers(0, 35))
def test_gaps_up_to_the_last_sequence_reach_over_the_tail(sequences: list[int], last: int) -> None:
    gaps = receive(sequences).gaps_up_to(last)
    highest = max([last, *sequences])  # a packet beyond the sender's last word shows that it was wrong
    assert members(gaps) == set(range(1, highest + 1)) - set(sequences)
    assert all(first <= end for first, end in gaps)


@given(huge, st.integers(0, MAX_SEQUENCE))
def test_huge_sequences_cost_no_more_than_small_ones(sequences: list[int], last: int) -> None:
    stream, received = receive(sequences), sorted({0, *sequences})
    assert list(stream.gaps) == [(a + 1, b - 1) for a, b in pairwise(received) if b - a > 1]
    assert stream.next == max(sequences, default=-1) + 1
    assert all(stream.has(sequence) for sequence in sequences)
    assert stream.has(last) == (last in sequences)
    tail = [(received[-1] + 1, last)] if last > received[-1] else []
    assert [*stream.gaps, *tail] == list(stream.gaps_up_to(last))


def test_a_stream_that_starts_with_1_misses_nothing() -> None:
    assert list(receive([1]).gaps) == []


def test_a_stream_that_starts_with_0_misses_nothing() -> None:
    assert list(receive([0]).gaps) == []


def test_a_0_that_comes_last_is_accepted() -> None:
    before = receive([1, 2])
    assert not before.has(0)
    assert before.add(0).has(0)
    assert list(before.add(0).gaps) == []


def test_a_stream_that_starts_with_5_misses_1_to_4_and_never_0() -> None:
    assert list(receive([5]).gaps) == [(1, 4)]
    assert list(receive([5, 0]).gaps) == [(1, 4)]


def test_a_stream_of_which_nothing_came_misses_1_up_to_the_last() -> None:
    assert list(StreamSequence().gaps_up_to(3)) == [(1, 3)]
    assert list(StreamSequence().gaps_up_to(0)) == []


def test_a_packet_inside_a_gap_splits_it() -> None:
    assert list(receive([1, 5, 3]).gaps) == [(2, 2), (4, 4)]


@pytest.mark.parametrize("sequence", [0, 1, 4])
def test_what_was_received_cannot_be_added_again(sequence: int) -> None:
    with pytest.raises(ValueError, match=f"sequence {sequence} was received before"):
        receive([0, 1, 4]).add(sequence)
