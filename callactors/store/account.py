"""The account that an embedded PostgreSQL runs under: PostgreSQL refuses to run as root."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from callactors.errors import EmbeddedFailed
from callactors.store.binaries import copy_binaries

# the kernel interrupts postgres when the Python that started it dies, kill -9 included (Linux, util-linux)
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "INT")


@dataclass(frozen=True, slots=True)
class Account:
    """How to start PostgreSQL's programs: with *prefix* before them; *owner* is uid and gid if not ours."""

    prefix: tuple[str, ...]
    owner: tuple[int, int] | None = None

    def can(self, command: Sequence[str | Path]) -> bool:
        """Tell whether *command* succeeds under this account."""
        try:
            done = subprocess.run(
                [*self.prefix, *command], capture_output=True, timeout=30, cwd="/", check=False
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0

    def give(self, path: Path) -> None:
        """Make this account the owner of *path* and of all below it; nothing to do for our own account."""
        if self.owner is None or path.stat().st_uid == self.owner[0]:
            return
        for directory, _, files in os.walk(path, topdown=False):
            for name in files:
                os.chown(Path(directory, name), *self.owner, follow_symlinks=False)
            os.chown(directory, *self.owner)  # the top comes last, so that a giving cut short is begun again

    def readable(self, binaries: Path, data_dir: Path) -> Path:
        """Return *binaries*, or a copy in *data_dir* if this account cannot read them."""
        if self.owner is None:
            return binaries
        if not self.can(["test", "-x", data_dir]):
            raise EmbeddedFailed(
                f"root has to run it as uid {self.owner[0]} here, which cannot enter {data_dir}:"
                " choose another data directory, such as /var/lib/callactors, or start as a normal user"
            )
        if self.can(
            ["env", binaries / "postgres", "--version"]
        ):  # setpriv's own exec has root's rights still
            return binaries
        return copy_binaries(binaries, data_dir / "binaries")


def choose_account(cluster: Path) -> Account:
    """Find by trial the account that can run PostgreSQL on *cluster*, which need not exist.

    A normal user is that account. Root steps into a user namespace in which it is nobody, so that no file
    changes its owner; where namespaces are refused (a container), it becomes nobody. Data of another user
    are run as that user.
    """
    if os.geteuid() != 0:
        tied = Account(_DIE_WITH_PARENT)
        return tied if tied.can(["true"]) else Account(())
    for account in _for_root(cluster):
        if account.can(["true"]):
            return account
    raise EmbeddedFailed(
        "PostgreSQL does not run as root, and neither unshare nor setpriv works here:"
        " start callactors as a normal user, or set DATABASE_URL"
    )


def _for_root(cluster: Path) -> list[Account]:
    if cluster.exists() and (stat := cluster.stat()).st_uid != 0:
        return [_become(stat.st_uid, stat.st_gid)]
    try:
        nobody = pwd.getpwnam("nobody")  # initdb wants an account that has a name
    except KeyError:
        return []
    uid, gid = nobody.pw_uid, nobody.pw_gid
    namespace = ("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--")
    return [Account((*namespace, *_DIE_WITH_PARENT)), _become(uid, gid)]


def _become(uid: int, gid: int) -> Account:
    return Account((*_DIE_WITH_PARENT, f"--reuid={uid}", f"--regid={gid}", "--clear-groups"), (uid, gid))
