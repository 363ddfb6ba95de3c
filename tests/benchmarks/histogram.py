"""How long things took, in little memory, however many there were."""

from array import array
from dataclasses import asdict, dataclass
from typing import Final

_STEPS: Final = 10_000  # a second: what is told is exact to 0.1 ms
_LONGEST: Final = 30.0  # seconds; what took longer is told as that, but by the maximum


@dataclass(frozen=True, slots=True)
class Times:
    """What a histogram tells, in ms: no p50 or p99 is told as less than it was."""

    count: int
    p50: float
    p99: float
    max: float

    def to_json(self) -> dict[str, float]:
        return {name: round(value, 3) for name, value in asdict(self).items()}


class Histogram:
    """Counts times in seconds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._counts = array("q", bytes(8 * (int(_LONGEST * _STEPS) + 1)))
        self._count = 0
        self._longest = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count *seconds* so many *times*."""
        self._counts[int(min(seconds, _LONGEST) * _STEPS)] += times
        self._count += times
        self._longest = max(self._longest, seconds)

    def read(self) -> Times:
        """Return what was counted."""
        return Times(self._count, self._quantile(0.50), self._quantile(0.99), self._longest * 1e3)

    def _quantile(self, share: float) -> float:
        wanted, seen = self._count * share, 0
        for step, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min((step + 1) / _STEPS, self._longest) * 1e3
        return 0.0
