"""The main job in small; `python -m tests.acceptance.story` tells it in full."""

from pathlib import Path

from tests.acceptance.story import Story


async def test_story_with_a_crash_in_the_middle_ends_clean(data_dir: Path) -> None:
    result = await Story(data_dir.parent, packets=1_000, calls=40, seed=1).run()
    assert result.is_clean, f"\n{result.table()}"
    assert result.report.stored == 1_000
    assert result.report.archived + result.report.failed == 40
