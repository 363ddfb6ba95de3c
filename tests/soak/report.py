"""What the samples of a long run say: the trend of each series, and which of them grow. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, NamedTuple, Self

from tests.soak.samples import Sample
from tests.soak.trend import Trend, fit


class _Series(NamedTuple):
    """*allowed* is what a series may change over the second half of the run; None: it is not judged."""

    title: str
    allowed: float | None


SERIES: Final = {
    "memory": _Series("memory, MiB", 4.0),
    "blocks": _Series("Python's blocks, thousands", 10.0),
    "files": _Series("open files", 5.0),
    "tasks": _Series("asyncio tasks", 5.0),
    "connections": _Series("connections to PostgreSQL", 1.0),
    "resident": _Series("calls in memory", 10.0),
    "latency": _Series("latency of a packet, ms", 1.0),
    "lag": _Series("lag of the loop, ms", None),
    "dead": _Series("dead rows, thousands", None),
    "size": _Series("size of all tables, MiB", None),
}
_HEAD: Final = f"{'':<28}{'before':>9}{'snapshot':>10}{'after':>9}{'in an hour':>24}{'second half':>24}"
SAMPLE_HEAD: Final = f"{'':>8}" + "".join(f"{name:>12}" for name in SERIES)


def tell_sample(sample: Sample) -> str:
    """Return a line below SAMPLE_HEAD."""
    return f"{sample.at * 3_600:>6.0f} s" + "".join(f"{getattr(sample, name):>12,.1f}" for name in SERIES)


@dataclass(frozen=True, slots=True)
class Judged:
    """One series: its means before, while and after a snapshot was open, and its trends in an hour.

    *verdict* is "flat", "falls" or "GROWS"; None if it is not judged.
    """

    name: str
    means: tuple[float, float, float]
    whole: Trend
    half: Trend
    verdict: str | None

    @classmethod
    def of(cls, name: str, samples: Sequence[Sample]) -> Self:
        """Judge the series *name* of *samples* by the second half of their time."""
        begin, end = samples[0].at, samples[-1].at
        later = [sample for sample in samples if sample.at >= (begin + end) / 2]
        half, allowed, verdict = _fit(name, later), SERIES[name].allowed, None
        if allowed is not None:
            is_flat = half.is_flat((end - begin) / 2, allowed)
            verdict = "flat" if is_flat else "GROWS" if half.slope > 0 else "falls"
        return cls(name, _means(name, samples), _fit(name, samples), half, verdict)

    @property
    def text(self) -> str:
        before, held, after = self.means
        return (
            f"{SERIES[self.name].title:<28}{before:>9,.1f}{held:>10,.1f}{after:>9,.1f}"
            f"{_tell(self.whole):>24}{_tell(self.half):>24}  {self.verdict or ''}"
        )


def judge_samples(samples: Sequence[Sample]) -> list[Judged]:
    """Return what becomes of each series."""
    return [Judged.of(name, samples) for name in SERIES]


def make_table(judged: Sequence[Judged]) -> str:
    """Return a line for each series."""
    return "\n".join([_HEAD, *(one.text for one in judged)])


def _means(name: str, samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Return the means before, while and after the snapshot was open; none are those of all samples."""
    held = [number for number, sample in enumerate(samples) if sample.is_held]
    first, last = (held[0], held[-1] + 1) if held else (len(samples), len(samples))
    parts = samples[:first], samples[first:last], samples[last:]
    before, during, after = (fmean(getattr(s, name) for s in part or samples) for part in parts)
    return before, during, after


def _fit(name: str, samples: Sequence[Sample]) -> Trend:
    return fit([sample.at for sample in samples], [getattr(sample, name) for sample in samples])


def _tell(trend: Trend) -> str:
    return f"{trend.slope:>+,.2f} ± {trend.error:,.2f}"
