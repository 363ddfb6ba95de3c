"""A copy of the source, and an environment that finds our dependencies but not us: both without a network."""

import shutil
import sysconfig
from pathlib import Path

from tests.pages import ROOT


def copy_source(to: Path) -> None:
    """Copy what a distribution is built from to *to*."""
    for folder in ("callactors", "sql"):
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to)


def link_dependencies(to: Path) -> None:
    """Make *to* a directory in which Python finds all that is installed here but us."""
    to.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "callactors" not in entry.name:
            (to / entry.name).symlink_to(entry)
