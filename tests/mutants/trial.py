"""A trial: some tests on a copy of the package, which a mutant may have changed."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).parents[2]
_COPIED: Final = ("callactors", "sql", "tests")
_ALONGSIDE: Final = ("pyproject.toml", "setup.cfg")
_TEST_TIMEOUT: Final = 20  # seconds; a mutant may make a test wait for ever
_RUN_TIMEOUT: Final = 300.0
_FAILED: Final = re.compile(r"^FAILED ([^\s\[]+)(?:.*? - (.*))?", re.MULTILINE)  # its parameters are left out
_SKIPPED: Final = re.compile(r"^SKIPPED ", re.MULTILINE)
_WIDTH: Final = "160"  # characters of such a line
_SHOWN: Final = 2_000  # characters


class Trial(NamedTuple):
    """What came of it: the tests that failed and what they said, or why nothing can be said.

    A test that cannot be collected or set up has not failed: it tells nothing of the package.
    """

    failed: Mapping[str, str]
    trouble: str | None = None


def try_mutant(mutant: Mutant) -> Trial:
    """Run the mutant's tests on it."""
    with _copy() as name:
        root = Path(name)
        mutant.apply(root)
        if mutant.module is not None:
            imported = _run(root, "-c", f"import {mutant.module}")
            if imported.returncode != 0:
                return Trial({}, f"it cannot be imported:\n{imported.stdout[-_SHOWN:]}")
        return _test(root, mutant.tests)


def try_unchanged(mutants: Iterable[Mutant]) -> str | None:
    """Run the tests of all *mutants* on an unchanged copy, and return what is wrong if not all pass."""
    tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
    with _copy() as name:
        ran = _pytest(Path(name), tests)
    is_green = ran.returncode == 0 and not _SKIPPED.search(ran.stdout)
    return None if is_green else f"not all pass on the package as it is:\n{ran.stdout[-_SHOWN:]}"


def _test(root: Path, tests: Iterable[str]) -> Trial:
    try:
        ran = _pytest(root, tests)
    except subprocess.TimeoutExpired:
        return Trial({}, f"the tests have not ended after {_RUN_TIMEOUT:g} s")
    failed = dict(_FAILED.findall(ran.stdout))
    trouble = f"no test failed, but:\n{ran.stdout[-_SHOWN:]}" if ran.returncode and not failed else None
    return Trial(failed, trouble)


def _pytest(root: Path, tests: Iterable[str]) -> "subprocess.CompletedProcess[str]":
    options = ("-q", "--tb=no", "--no-header", "-p", "no:cacheprovider", f"--timeout={_TEST_TIMEOUT}")
    return _run(root, "-m", "pytest", *options, *tests)


def _run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": _WIDTH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_RUN_TIMEOUT,
        check=False,
    )


def _copy() -> AbstractContextManager[str]:
    """Lend a directory with a copy of the package and its tests."""
    place = tempfile.TemporaryDirectory(prefix="callactors-mutant-")
    root = Path(place.name)
    root.chmod(0o755)  # PostgreSQL may have to run as another user
    for name in _COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _ALONGSIDE:
        shutil.copy(ROOT / name, root)
    return place
