"""The directory of an embedded PostgreSQL: who may use it, and which version's data it holds."""

import asyncio
import contextlib
import fcntl
import os
import re
import tempfile
from pathlib import Path

from callactors.errors import DataDirBusy, DataDirVersion

_POLL_INTERVAL = 0.05


class DataDir:
    """One server's hold on *path*; the data of PostgreSQL 18 are in its `pg18`.

    The hold is a flock on `lock` that postgres inherits, so it ends with the last process that could still
    write, and it is right where pids are not: in containers that share a volume, and after a reboot.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_file = path / "postgres.log"
        self._lock = -1

    @classmethod
    def make(cls, wanted: Path | None) -> "DataDir":
        """Make *wanted*, or a temporary directory for None; others may pass, not look."""
        path = Path(tempfile.mkdtemp(prefix="callactors-data-")) if wanted is None else wanted.absolute()
        new = wanted is None or not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        if new:
            path.chmod(0o711)  # root's postgres may have to run as nobody
            sync_dir(path.parent)
        return cls(path)

    @property
    def lock_fds(self) -> tuple[int, ...]:
        """What a child process inherits to have a part in the hold."""
        return (self._lock,)

    def cluster(self, major: int) -> Path:
        return self.path / f"pg{major}"

    async def hold(self, major: int, *, takeover_timeout: float) -> None:
        """Take the lock, waiting so many seconds for a server that is going; then raise DataDirBusy."""
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + takeover_timeout
        while (pid := self._user(self.cluster(major))) is not None:
            if loop.time() >= deadline:
                raise DataDirBusy(self.path, pid)
            await asyncio.sleep(_POLL_INTERVAL)
        _, socket_dir = self._signature()
        if socket_dir:  # of a server that was killed; nothing else knows its name
            remove_socket_dir(Path(socket_dir))
        self.sign(os.getpid())

    def find_socket_dir(self) -> str:
        """Return where the server that holds the lock has its socket; "" if there is none."""
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR)
        except FileNotFoundError:
            return ""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._signature()[1]
        finally:
            self.release()
        return ""

    def sign(self, pid: int, socket_dir: Path | str = "") -> None:
        """Write into the lock file who holds it, for the one who finds it held or left behind."""
        os.ftruncate(self._lock, os.pwrite(self._lock, f"{pid}\n{socket_dir}".encode(), 0))

    def release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def has(self, major: int) -> bool:
        """Tell whether data of version *major* are here; raise DataDirVersion if there are only others."""
        held = {}
        for entry in self.path.iterdir():
            if name := re.fullmatch(r"pg(\d+)", entry.name):
                with contextlib.suppress(FileNotFoundError):
                    held[int(name[1])] = int((entry / "PG_VERSION").read_text())
        found = held.get(major, max(held.values(), default=major))
        if found != major:
            raise DataDirVersion(self.path, found, major)
        return major in held

    def begin_log(self) -> None:
        """Begin a new log and keep the one before; it may quote data, so it is for the owner's eyes."""
        with contextlib.suppress(FileNotFoundError):
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        os.close(os.open(self.log_file, os.O_WRONLY | os.O_CREAT, 0o600))

    def log_tail(self) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-10:])

    def _user(self, cluster: Path) -> int | None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._signature()[0]
        return _postmaster(cluster)

    def _signature(self) -> tuple[int, str]:
        pid, _, socket_dir = os.pread(self._lock, 4096, 0).decode().partition("\n")
        return int(pid or 0), socket_dir


def sync_dir(path: Path) -> None:
    """Make the names in *path* durable."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove_socket_dir(path: Path) -> None:
    """Remove *path* if nothing but PostgreSQL's socket is in it."""
    with contextlib.suppress(OSError):
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (path / name).unlink(missing_ok=True)
        path.rmdir()


def _postmaster(cluster: Path) -> int | None:
    """Return the pid of a PostgreSQL that someone else started on *cluster*, by pg_ctl for instance.

    PostgreSQL asks only whether the pid in postmaster.pid lives, and would refuse to start for ever once a
    reboot has given that pid to another program; then the file is removed.
    """
    file = cluster / "postmaster.pid"
    try:
        pid = abs(int(file.read_text().partition("\n")[0]))
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError, PermissionError):
        return None  # a dead pid, or one of another user, is PostgreSQL's own business
    if _works_in(pid, cluster):
        return pid
    file.unlink()
    return None


def _works_in(pid: int, cluster: Path) -> bool:
    if not Path("/proc/self/cwd").exists():
        return True  # macOS does not tell
    try:
        return Path(f"/proc/{pid}/cwd").samefile(cluster)
    except FileNotFoundError:
        return False  # a zombie
    except PermissionError:
        return True
