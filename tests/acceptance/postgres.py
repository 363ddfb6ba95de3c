"""A PostgreSQL of a test's own that goes away and comes back under the same DSN."""

import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from callactors.store.embedded import EmbeddedPostgres


class ComingAndGoing:
    """A durable server with its data in *place*; a link there leads to the socket's present directory."""

    def __init__(self, place: Path) -> None:
        self._server = EmbeddedPostgres(data_dir=place / "data")
        self._link = place / "socket"

    @property
    def dsn(self) -> str:
        return f"postgresql://callactors@/callactors?host={self._link}&port=5432"

    async def start(self) -> None:
        directory = parse_qs(urlsplit(await self._server.start()).query)["host"][0]
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(directory)

    async def stop(self) -> None:
        """Shut down, disconnecting the clients."""
        await self._server.stop()

    async def kill(self) -> None:
        """Kill -9 the postmaster; its children go with it."""
        assert self._server.pid is not None
        os.kill(self._server.pid, signal.SIGKILL)
        await self._server.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
