"""What happens to the wall clock while the monotonic one goes on. It needs libfaketime."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from callactors.store.embedded import EmbeddedPostgres
from tests.faults.scene import Nemesis, Scene

_LIBRARY: Final = "libfaketimeMT.so.1"
_JUMPS: Final = ("+3600s", "-3600s", "+0s")
_SHIFTED: Final = 1.0
_FILE: Final = "clock"


async def shift_clock(scene: Scene) -> None:
    """Let the wall clock of server and PostgreSQL jump by an hour, ahead or back, and to the truth again."""
    file = scene.place / _FILE
    async with scene.fault():
        file.write_text(f"{scene.choose(_JUMPS[:2])}\n")
        await asyncio.sleep(_SHIFTED)
        file.write_text(f"{_JUMPS[2]}\n")


@asynccontextmanager
async def _with_shifted_clock(place: Path) -> AsyncIterator[EmbeddedPostgres]:
    (place / _FILE).write_text(f"{_JUMPS[2]}\n")
    with _environment({name: value.format(place=place) for name, value in _variables().items()}):
        postgres = EmbeddedPostgres(data_dir=None)
        await postgres.start()
    try:
        yield postgres
    finally:
        await postgres.stop()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Give *variables* to the processes that are started meanwhile."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def _variables() -> dict[str, str]:
    return {
        "LD_PRELOAD": str(_find_library() or ""),
        "FAKETIME_TIMESTAMP_FILE": f"{{place}}/{_FILE}",
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _find_library() -> Path | None:
    return next(Path("/usr/lib").glob(f"*/faketime/{_LIBRARY}"), None)


def _lacks_library() -> str | None:
    return None if _find_library() else "there is no libfaketime"


NEMESES: Final = (
    Nemesis(
        name="clock",
        strike=shift_clock,
        postgres=_with_shifted_clock,
        extra=_variables(),
        lacks=_lacks_library,
    ),
)
