"""What Linux tells about processes, cores and the disk."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Self

_PACKAGES = ("callactors", "aiohttp", "asyncpg", "pydantic")
_PAGE = b"\x00" * 8192


class Reading(NamedTuple):
    """Clocks of a process and of this one, in seconds.

    `waiting` is how long the process's main thread was ready to run while others had its core.
    """

    at: float
    cpu: float
    waiting: float
    own_cpu: float
    own_waiting: float

    @classmethod
    def take(cls, pid: int) -> Self:
        """Read the clocks now."""
        proc = Path("/proc") / str(pid)
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc_pid_stat(5)
        cpu = ticks / os.sysconf("SC_CLK_TCK")
        own_waiting = _waiting(Path("/proc/self"))
        return cls(time.perf_counter(), cpu, _waiting(proc), time.process_time(), own_waiting)


def _waiting(proc: Path) -> float:
    return int((proc / "schedstat").read_text().split()[1]) / 1e9


def resident_set(pid: int) -> int:
    """Return the resident set of a process in bytes, exactly: VmRSS may lag behind."""
    for line in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("smaps_rollup has no Rss")


def read_cores() -> tuple[float, float]:
    """Return for how long the cores that this process may use were busy since the boot, of how long."""
    names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    busy = total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in names:
            ticks = [int(field) for field in fields[:8]]  # without guests, proc_stat(5)
            total += sum(ticks)
            busy += sum(ticks) - ticks[3] - ticks[4]  # idle and iowait
    return busy / os.sysconf("SC_CLK_TCK"), total / os.sysconf("SC_CLK_TCK")


@contextmanager
def one_core_set_apart() -> Iterator[int]:
    """Keep this process and those it starts off one core, and yield the number of that core."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        raise SystemExit("this benchmark needs two cores: one for the server, one for all else")
    apart = max(cores)
    os.sched_setaffinity(0, cores - {apart})
    try:
        yield apart
    finally:
        os.sched_setaffinity(0, cores)


def sync_time(writes: int = 200) -> float:
    """Return the median time of writing and syncing 8 KiB, in microseconds, where temporary files are."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(writes):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), _PAGE, 0)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def versions() -> dict[str, str]:
    """Return the versions of what is measured."""
    python, kernel = platform.python_version(), platform.release()
    return {"python": python, "kernel": kernel} | {name: version(name) for name in _PACKAGES}


def reset_peak_memory(pid: int) -> None:
    """Let the peak memory of a process begin anew."""
    (Path("/proc") / str(pid) / "clear_refs").write_text("5")  # proc_pid_clear_refs(5)


def peak_memory(pid: int) -> int:
    """Return the most bytes of memory that a process has had since its peak was reset."""
    status = (Path("/proc") / str(pid) / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
