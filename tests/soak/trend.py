"""Which way a series goes, and how surely. Pure."""

from collections.abc import Sequence
from math import sqrt
from statistics import linear_regression
from typing import NamedTuple


class Trend(NamedTuple):
    """The slope by least squares, and its standard error."""

    slope: float
    error: float

    def is_flat(self, span: float, allowed: float) -> bool:
        """Whether it may be chance, or makes no more than *allowed* over a time of *span*."""
        return abs(self.slope) <= 2 * self.error or abs(self.slope) * span <= allowed


def fit(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Return the trend of *values*, for each unit of the *times*, of which there are three or more.

    The error takes each value's deviation for independent of the others': a series that wanders is less sure.
    """
    if len(times) < 3:
        raise ValueError("a trend takes three samples")
    slope, start = linear_regression(times, values)
    middle = sum(times) / len(times)
    spread = sum((time - middle) ** 2 for time in times)
    rest = sum((value - start - slope * time) ** 2 for time, value in zip(times, values, strict=True))
    return Trend(slope, sqrt(rest / (len(times) - 2) / spread))
