"""Pictures of what benchmarks told: their ratios, the spread of their rounds, and what grows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Told = Mapping[str, Any]
"""A report's JSON."""

# Text as text, and the same file for the same figures.
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "callactors",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_GOOD, _BAD, _INVALID, _WANTED = "#2a9d5c", "#c8553d", "#a0a0a0", "#30343f"
_WIDTH: Final = 9.0
_MARGIN: Final = 0.12  # beside the longest bar, for its number
_ROW: Final = 0.42
_GROWTH_HEIGHT: Final = 3.6


def draw(reports: Sequence[Told], directory: Path, *, title: str) -> list[Path]:
    """Write the pictures that *reports* have figures for, each under *title*, and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    with mpl.rc_context(_STYLE):
        for name, figure in _draw_all(reports):
            figure.suptitle(title)
            paths.append(directory / f"performance-{name}.svg")
            figure.savefig(paths[-1], metadata={"Date": None})
    return paths


def _draw_all(reports: Sequence[Told]) -> Iterator[tuple[str, Figure]]:
    yield "ratios", _draw_ratios(reports)
    if with_rounds := [told for told in reports if "ratio_of_rounds" in told]:
        yield "rounds", _draw_rounds(with_rounds)
    for told in reports:
        if "series" in told:
            yield told["name"], _draw_growth(told["series"], told["wanted"])


def _draw_ratios(reports: Sequence[Told]) -> Figure:
    figure, axes = _rows(reports)
    axes.barh(
        range(len(reports)),
        [told["ratio"] for told in reports],
        height=0.6,
        color=[_color(told) for told in reports],
    )
    for row, told in enumerate(reports):
        axes.text(max(told["ratio"], told["wanted"]), row, f" {told['ratio']:.2f}", va="center")
    axes.set_xlim(left=0)
    axes.set_xlabel("measured; the mark is what is wanted, at least or at most (grey: not a valid run)")
    return figure


def _draw_rounds(reports: Sequence[Told]) -> Figure:
    figure, axes = _rows(reports)
    for row, told in enumerate(reports):
        ratios = told["ratio_of_rounds"]
        axes.hlines(row, min(ratios), max(ratios), color=_color(told))
        axes.plot(ratios, [row] * len(ratios), "o", color=_color(told), alpha=0.7)
    axes.set_xlim(left=0)
    axes.set_xlabel("the ratio of each round")
    return figure


def _rows(reports: Sequence[Told]) -> tuple[Figure, Axes]:
    """Return axes with a row for each report, with a mark at what is wanted and its direction."""
    figure = Figure(figsize=(_WIDTH, 1 + _ROW * len(reports)), layout="constrained")
    axes = figure.subplots()
    for row, told in enumerate(reports):
        axes.vlines(told["wanted"], row - 0.4, row + 0.4, color=_WANTED, lw=2)
    names = [f"{told['name']} {'≤' if told['is_limit'] else '≥'} {told['wanted']:g}" for told in reports]
    axes.set_yticks(range(len(reports)), names)
    axes.invert_yaxis()
    axes.margins(x=_MARGIN)
    return figure, axes


def _draw_growth(series: Mapping[str, Any], wanted: float) -> Figure:
    """Draw how many times the buffers of the first size each size takes."""
    figure = Figure(figsize=(_WIDTH, _GROWTH_HEIGHT), layout="constrained")
    panels: Iterable[Axes] = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (title, sizes) in zip(panels, series.items(), strict=True):
        first, *_ = sizes.values()
        for kind in first:
            factors = [costs[kind]["buffers"] / first[kind]["buffers"] for costs in sizes.values()]
            axes.plot(list(sizes), factors, "o-", label=kind)
        axes.axhline(wanted, color=_WANTED, lw=1, ls="--")
        axes.set_title(title)
        axes.margins(_MARGIN)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    figure.supylabel("buffers, times those at the first size")
    return figure


def _color(told: Told) -> str:
    if not told["valid"]:
        return _INVALID
    return _GOOD if told["is_good"] else _BAD
