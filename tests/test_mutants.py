"""The mutants fit the package as it is, and a trial tells a red test from one that says nothing."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.mutants import MUTANTS
from tests.mutants.__main__ import main
from tests.mutants.mutant import Mutant, make_table
from tests.mutants.trial import ROOT, try_mutant

PAGE: Final = ROOT / "docs" / "reliability.md"
FUNCTION: Final = re.compile(r"^create (?:or replace )?function (\w+)_(\d+)\(", re.MULTILINE)
each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)

TOY: Final = Mutant(
    name="toy",
    breaks="no transition leads anywhere",
    path="callactors/states.py",
    old="return CallState(cell.state)",
    new="return state",
    tests=("tests/test_states.py::test_legal_trigger_leads_where_the_table_says",),
)


@each_mutant
def test_what_a_mutant_replaces_is_there_once(mutant: Mutant, tmp_path: Path) -> None:
    file = tmp_path / mutant.path
    file.parent.mkdir(parents=True)
    before = (ROOT / mutant.path).read_text(encoding="utf-8")
    file.write_text(before, encoding="utf-8")
    mutant.apply(tmp_path)
    assert file.read_text(encoding="utf-8") != before
    with pytest.raises(ValueError, match=f"{mutant.name}: .* times in {mutant.path}"):
        replace(mutant, old="not there").apply(tmp_path)


@each_mutant
def test_the_tests_of_a_mutant_are_there(mutant: Mutant) -> None:
    for test in mutant.tests:
        path, name = test.split("::")
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if mutant.module is None], ids=lambda mutant: mutant.name
)
def test_a_mutant_of_sql_is_one_of_the_newest_function(mutant: Mutant) -> None:
    text = (ROOT / mutant.path).read_text(encoding="utf-8")
    *_, (name, number) = FUNCTION.findall(text[: text.index(mutant.old)])
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "sql").glob("*.sql")]
    defined = [(its_name, int(its)) for file in files for its_name, its in FUNCTION.findall(file)]
    assert int(number) == max(its for its_name, its in defined if its_name == name)


def test_every_mutant_is_documented_with_what_notices_it() -> None:
    assert make_table(MUTANTS) in PAGE.read_text(encoding="utf-8")
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_a_mutant_that_is_noticed_is_told_with_its_test() -> None:
    assert try_mutant(TOY).failed.keys() == set(TOY.tests)


def test_a_mutant_that_changes_nothing_survives() -> None:
    trial = try_mutant(replace(TOY, new=f"{TOY.old}  # the same"))
    assert trial == ({}, None)


def test_a_mutant_that_is_no_python_is_not_taken_for_noticed() -> None:
    trial = try_mutant(replace(TOY, new="return ("))
    assert not trial.failed
    assert trial.trouble is not None
    assert "it cannot be imported" in trial.trouble


def test_a_mutant_that_is_no_sql_is_not_taken_for_noticed() -> None:
    broken = next(mutant for mutant in MUTANTS if mutant.name == "epoch-unchecked")
    trial = try_mutant(replace(broken, new="where"))
    assert not trial.failed
    assert trial.trouble is not None
    assert "no test failed" in trial.trouble


def test_an_unknown_mutant_is_refused_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["epoch-unchecked", "thunder"])
    assert refused.value.code == 2
    assert "no such mutant: thunder; --help has their names" in capsys.readouterr().err
