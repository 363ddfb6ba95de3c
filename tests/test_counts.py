"""What is counted: histograms, and attempts by their outcome."""

from callactors.counts import CallCounts, Histogram
from callactors.retry import Done, GiveUp, Retry


def test_a_value_is_counted_below_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram((1.0, 2.0))
    for value, times in ((0.0, 1), (1.0, 1), (1.5, 3), (2.0, 1), (2.5, 2)):
        histogram.add(value, times)
    assert histogram.counts == [2, 4, 2]
    assert histogram.sum == 12.5


def test_attempts_are_counted_by_their_outcome() -> None:
    counts = CallCounts()
    for times, outcome in enumerate((Done(), Retry("later"), GiveUp("no"), None), 1):
        for _ in range(times):
            counts.count_attempt(outcome, 0.5)
    assert {name: histogram.sum for name, histogram in counts.attempts.items()} == {
        "done": 0.5,
        "retry": 1.0,
        "give_up": 1.5,
        "canceled": 2.0,
    }
