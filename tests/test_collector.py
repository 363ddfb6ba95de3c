"""Memory of a server that lives for long: what closed WebSockets leave behind is found."""

import asyncio
import json
import sys
from collections import deque

from callactors.serve import _spare_the_collector

CLOSED = 20_000
OBJECTS = 40  # that a WebSocket leaves: its request, response, streams, transport, and what they hold
OPEN = 500  # at once, so that each lives for long


class Remains:
    """Something that holds itself by what it has."""

    count = 0

    def __init__(self) -> None:
        self.held = [[self] for _ in range(OBJECTS)]
        Remains.count += 1

    def __del__(self) -> None:
        Remains.count -= 1


def close_many() -> int:
    """Return how many of the remains were there at once at most."""
    _spare_the_collector()
    most, alive = 0, deque[Remains](maxlen=OPEN)
    for _ in range(CLOSED):
        alive.append(Remains())
        most = max(most, Remains.count)
    return most


async def test_what_closed_websockets_leave_does_not_pile_up() -> None:
    # In a process of its own: the collector is the process's.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.test_collector", stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(told) < CLOSED / 2


if __name__ == "__main__":
    sys.stdout.write(str(close_many()))
