"""The list of what is broken is complete where it is told."""

import re
from pathlib import Path

import pytest

from tests.faults.__main__ import main
from tests.faults.nemeses import NEMESES

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_every_nemesis_has_a_name_of_its_own_and_is_documented() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(nemesis.name, nemesis.line) for nemesis in NEMESES]
    assert len({nemesis.name for nemesis in NEMESES}) == len(NEMESES)


def test_unknown_nemesis_is_refused_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["kill", "thunder"])
    assert refused.value.code == 2
    assert "no such nemesis: thunder; --help has their names" in capsys.readouterr().err


def test_help_tells_what_each_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as told:
        main(["--help"])
    assert told.value.code == 0
    text = capsys.readouterr().out
    assert all(nemesis.line in text for nemesis in NEMESES)
