"""What is built and installed is whole: every module, the SQL files and the command."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.pages import ROOT
from tests.sources import copy_source, link_dependencies

pytestmark = pytest.mark.timeout(300)

SQL = sorted(path.name for path in (ROOT / "sql").glob("*.sql"))
LIST_SQL = """
from callactors.store.migrations import SQL_DIR
print(*sorted(path.name for path in SQL_DIR.glob("*.sql")))
"""


class Place(NamedTuple):
    """A copy of the source, its distributions, and an environment that finds our dependencies but not us."""

    source: Path
    dist: Path
    bin: Path
    dependencies: Path

    def run(self, *command: str | Path, path: str = "") -> str:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [path, str(self.dependencies)]))}
        program, *arguments = command
        return subprocess.check_output([self.bin / program, *arguments], env=env, cwd=self.dist, text=True)

    def install(self, *what: str | Path) -> None:
        offline = ("--no-deps", "--no-index", "--no-build-isolation", "--force-reinstall")
        self.run("python", "-m", "pip", "install", *offline, *what)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("packaging")
    place = Place(home / "source", home / "dist", home / "venv" / "bin", home / "dependencies")
    copy_source(place.source)
    link_dependencies(place.dependencies)
    venv.create(home / "venv")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place.dist), str(place.source))
    subprocess.run(build, check=True)
    return place


def test_wheel_built_from_the_sdist_holds_every_file(place: Place) -> None:
    (wheel,) = place.dist.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {str(path.relative_to(place.source)) for path in (place.source / "callactors").rglob("*.*")}
    assert held == code | {f"callactors/sql/{name}" for name in SQL}


@pytest.mark.parametrize("mode", ["wheel", "lenient", "strict", "compat"])
def test_installed_callactors_finds_its_sql_and_has_its_command(place: Place, mode: str) -> None:
    if mode == "wheel":
        place.install(*place.dist.glob("*.whl"))
    else:
        place.install("--config-settings", f"editable_mode={mode}", "--editable", place.source)
    assert place.run("python", "-c", LIST_SQL).split() == SQL
    assert "usage: callactors" in place.run("callactors", "--help")


def test_plain_checkout_finds_its_sql(place: Place) -> None:
    assert place.run("python", "-c", LIST_SQL, path=str(place.source)).split() == SQL
