"""What systemd is told, over a real socket, and when it is told nothing."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callactors.systemd import READY, STOPPING, Systemd
from tests.acceptance.server import QUICK, Server

SOON = "20000"  # microseconds


class Manager:
    """Hears what units say."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name)
        self._socket.setblocking(False)

    async def hear(self) -> str:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(30):
            return (await loop.sock_recv(self._socket, 4096)).decode()

    def hears_nothing(self) -> bool:
        try:
            self._socket.recv(4096)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    yield manager
    manager.close()


@pytest.fixture
def unit(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a unit with a watchdog."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", SOON)


@pytest.fixture
async def served(tmp_path: Path, dsn: str, address: str, manager: Manager) -> AsyncIterator[Server]:
    extra = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": SOON}
    async with Server(tmp_path, dsn=dsn, settings=QUICK, extra=extra) as server:
        yield server


async def test_a_server_says_that_it_is_ready_lives_and_stops(served: Server, manager: Manager) -> None:
    assert await manager.hear() == "READY=1"
    assert await manager.hear() == "WATCHDOG=1"
    assert await manager.hear() == "WATCHDOG=1"
    served.signal(15)
    while (told := await manager.hear()) == "WATCHDOG=1":
        pass
    assert told == "STOPPING=1"
    assert await served.wait() == 0


@pytest.mark.usefixtures("unit")
async def test_a_system_that_has_failed_does_not_feed_the_watchdog(manager: Manager) -> None:
    asked = asyncio.Event()

    def is_well() -> bool:
        asked.set()
        return False

    async with Systemd().watched(is_well):
        await asked.wait()
    assert manager.hears_nothing()


@pytest.mark.usefixtures("unit")
async def test_a_loop_that_does_not_turn_does_not_feed_the_watchdog(manager: Manager) -> None:
    async with Systemd().watched(lambda: True):
        assert manager.hears_nothing()
        assert await manager.hear() == "WATCHDOG=1"


@pytest.mark.usefixtures("unit")
async def test_a_watchdog_for_another_process_is_not_fed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    async with Systemd().watched(lambda: True):
        await asyncio.sleep(0)
    assert manager.hears_nothing()


@pytest.mark.usefixtures("unit")
def test_children_do_not_hear_of_the_socket(manager: Manager) -> None:
    """PostgreSQL would say that it is ready, too."""
    systemd = Systemd()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()
    systemd.tell(STOPPING)
    assert not manager.hears_nothing()


@pytest.mark.skipif(not hasattr(socket, "SO_PASSCRED"), reason="abstract names are Linux's")
async def test_an_abstract_name_is_understood(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    manager = Manager(f"\0{address}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{address}")
    Systemd().tell(READY)
    assert await manager.hear() == "READY=1"
    manager.close()


@pytest.mark.usefixtures("unit")
def test_a_manager_that_is_gone_costs_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    Systemd().tell(READY)
    assert "systemd is not told READY=1" in caplog.text


def test_without_a_manager_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Systemd().tell(READY)
    assert not caplog.records
