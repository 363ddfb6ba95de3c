"""Many supervisors over restarts, in small; `python -m tests.acceptance.floor` does it in full."""

from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from callactors.store.events import Position
from tests.acceptance.floor import Floor, Watcher, _Run, judge
from tests.acceptance.server import Server

LOG = [Position(number, number) for number in range(1, 7)]
STATES = {"a": "ARCHIVED", "b": "FAILED"}
GOOD = {"a": ("ARCHIVED", 4), "b": ("FAILED", 5)}


@pytest.fixture
async def watcher(tmp_path: Path) -> Watcher:
    async with aiohttp.ClientSession() as session:
        return Watcher([Server(tmp_path)], session, "steady", "seed")


async def test_supervisors_see_every_transition_once_over_two_restarts(data_dir: Path) -> None:
    result = await Floor(data_dir.parent, supervisors=60, seconds=6, seed=1).run()
    assert result.is_clean, f"\n{result.table()}"
    assert (result.calls, result.restarts) == (31, 2)
    assert result.counts["events"] > 60 * 60


@pytest.mark.parametrize(
    ("runs", "view", "finding"),
    [
        ([(0, [1, 2, 3, 4, 5, 6])], GOOD, None),
        ([(0, [1, 2]), (4, [5, 6])], GOOD, None),
        ([(0, [1, 2]), (6, [])], GOOD, None),
        ([(0, [1, 2, 4, 5, 6])], GOOD, "holes"),
        ([(0, [1, 2, 2, 3, 4, 5, 6])], GOOD, "repeated"),
        ([(0, [1, 2, 3, 4, 5, 6, 7])], GOOD, "invented"),
        ([(0, [2, 3, 4, 5, 6])], GOOD, "late beginnings"),
        ([(0, [1, 2, 3, 4, 5])], GOOD, "unfinished"),
        ([(0, [1, 2]), (5, [])], GOOD, "unfinished"),
        ([(0, [1, 2, 3, 4, 5, 6])], {**GOOD, "b": ("ARCHIVED", 5)}, "wrong views"),
        ([(0, [1, 2, 3, 4, 5, 6])], {"a": ("ARCHIVED", 4)}, "wrong views"),
        ([(0, [1, 2, 3, 4, 5, 6])], {**GOOD, "c": ("ARCHIVED", 5)}, "wrong views"),
    ],
)
async def test_the_judge_sees_what_is_wrong(
    watcher: Watcher,
    runs: list[tuple[int, list[int]]],
    view: dict[str, tuple[str, int]],
    finding: str | None,
) -> None:
    watcher.runs = [_Run(Position(begin, begin), [Position(n, n) for n in told]) for begin, told in runs]
    watcher.view = view
    found = +judge(watcher, LOG, STATES)
    assert found.keys() >= (Counter() if finding is None else {finding: 1}).keys()
    assert bool(found) == (finding is not None)
