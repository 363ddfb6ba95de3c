"""How long a call waits between attempts of its AI step."""

from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callactors.retry import RetryPolicy

attempts = st.integers(1, 200)
chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    RetryPolicy,
    initial=st.floats(0, 100),
    factor=st.floats(1, 10),
    max_delay=st.floats(0, 1_000),
    jitter=st.floats(0, 1),
)


def no_chance() -> float:
    return 0.0


def test_the_default_waits_are_1_2_and_4_seconds() -> None:
    policy = RetryPolicy()
    assert policy.max_attempts == 4
    assert [policy.delay(attempt, None, no_chance) for attempt in (1, 2, 3)] == [1.0, 2.0, 4.0]


def test_each_wait_is_the_one_before_times_the_factor() -> None:
    policy = RetryPolicy(initial=0.5, factor=3.0)
    assert [policy.delay(attempt, None, no_chance) for attempt in (1, 2, 3, 4)] == [0.5, 1.5, 4.5, 13.5]


def test_no_wait_is_above_the_maximum() -> None:
    policy = RetryPolicy(initial=1.0, factor=10.0, max_delay=50.0)
    assert [policy.delay(attempt, None, no_chance) for attempt in (1, 2, 3, 4)] == [1.0, 10.0, 50.0, 50.0]


def test_a_first_wait_above_the_maximum_is_cut() -> None:
    assert RetryPolicy(initial=90.0, max_delay=60.0).delay(1, None, no_chance) == 60.0


def test_attempt_10_000_waits_the_maximum_and_does_not_overflow() -> None:
    assert RetryPolicy(factor=1e300).delay(10_000, None, no_chance) == 60.0


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 2.0), (0.5, 2.5), (0.75, 2.75)])
def test_jitter_adds_up_to_its_fraction_of_the_wait(chance: float, wait: float) -> None:
    assert RetryPolicy(jitter=0.5).delay(2, None, lambda: chance) == wait


@given(policies, attempts, chances)
def test_a_wait_lies_between_the_plain_one_and_the_jittered_and_never_above_the_maximum(
    policy: RetryPolicy, attempt: int, chance: float
) -> None:
    plain = policy.delay(attempt, None, no_chance)
    wait = policy.delay(attempt, None, lambda: chance)
    assert plain <= wait <= min(plain * (1 + policy.jitter), policy.max_delay)


@given(policies, attempts)
def test_a_later_attempt_never_waits_less(policy: RetryPolicy, attempt: int) -> None:
    assert policy.delay(attempt, None, no_chance) <= policy.delay(attempt + 1, None, no_chance)


@pytest.mark.parametrize(
    ("after", "wait"), [(0.0, 0.0), (7.5, 7.5), (60.0, 60.0), (3_600.0, 60.0), (-1.0, 0.0), (nan, 0.0)]
)
def test_the_wait_a_processor_asks_for_is_honoured_within_bounds(after: float, wait: float) -> None:
    assert RetryPolicy(jitter=1.0).delay(3, after, lambda: 0.9) == wait


@given(policies, attempts, st.floats())
def test_no_wait_a_processor_asks_for_leaves_the_bounds(
    policy: RetryPolicy, attempt: int, after: float
) -> None:
    assert 0.0 <= policy.delay(attempt, after, no_chance) <= policy.max_delay
