"""Supervisors: `python -m tests.benchmarks.watchers PORT` opens WebSockets and counts what comes, cheaply.

It takes commands on stdin, a line each: `open N` opens N more sockets, `count` begins to count anew, `time`
does so and also takes the age of each event, `report` has no effect. Each is answered with a line, a Seen as
JSON.
"""

import gc
import json
import os
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from tests.benchmarks.load import percentile

_UPGRADE: Final = (
    b"GET /ws/supervisor HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
# First bytes of whole frames, RFC 6455 section 5.2
_TEXT: Final = 0x81
_PING: Final = 0x89
_PONG: Final = b"\x8a\x80\x00\x00\x00\x00"  # empty, masked with zeros
_BUFFER: Final = 1024 * 1024
_AT: Final = b'"at":"'
_AT_LENGTH: Final = len("2026-01-01T00:00:00.000Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came since the last `count` or `time`; `cut` sockets were closed by the server, ever.

    p50, p99 and highest are ages of events on arrival, in ms. `last_at` is when the last frame came, by the
    clock of the day; `busy` the share of the wall time that this process ran.
    """

    sockets: int
    cut: int
    frames: int
    size: int
    last_at: float
    busy: float
    p50: float
    p99: float
    highest: float


class _Watcher:
    __slots__ = ("rest", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(_UPGRADE)
        answer = b""
        while b"\r\n\r\n" not in answer:
            read = self.socket.recv(65_536)
            if not read:
                raise ConnectionError("the server has closed a connection")
            answer += read
        head, _, self.rest = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(f"the server does not upgrade: {head!r}")
        self.socket.setblocking(False)


class _Watchers:
    def __init__(self, port: int) -> None:
        self._port = port
        self._watchers: dict[int, _Watcher] = {}
        self._epoll = select.epoll()
        self._cut = 0
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._at_of: dict[bytes, float] = {}
        self._begin(is_timed=False)

    def run(self) -> None:
        """Watch until stdin ends."""
        commands = sys.stdin.fileno()
        self._epoll.register(commands, select.EPOLLIN)
        while True:
            for number, _ in self._epoll.poll():
                if number != commands:
                    self._receive(self._watchers[number])
                elif line := os.read(commands, 1_000):  # one at a time, each waits for its answer
                    self._obey(*line.decode().split())
                    print(json.dumps(asdict(self._report())), flush=True)
                else:
                    return

    def _obey(self, command: str, *arguments: str) -> None:
        if command == "open":
            for _ in range(int(arguments[0])):
                watcher = _Watcher(self._port)
                self._watchers[watcher.socket.fileno()] = watcher
                self._epoll.register(watcher.socket, select.EPOLLIN)
        elif command != "report":
            self._begin(is_timed=command == "time")

    def _begin(self, *, is_timed: bool) -> None:
        self._is_timed = is_timed
        self._frames = self._size = 0
        self._last_at = 0.0
        self._ages: list[float] = []
        self._since, self._cpu_before = time.perf_counter(), time.process_time()

    def _report(self) -> Seen:
        ages = sorted(self._ages)
        cpu, wall = time.process_time() - self._cpu_before, time.perf_counter() - self._since
        return Seen(
            sockets=len(self._watchers),
            cut=self._cut,
            frames=self._frames,
            size=self._size,
            last_at=self._last_at,
            busy=cpu / wall,
            p50=percentile(ages, 0.50) * 1e3,
            p99=percentile(ages, 0.99) * 1e3,
            highest=percentile(ages, 1) * 1e3,
        )

    def _receive(self, watcher: _Watcher) -> None:
        buffer, size = self._buffer, len(watcher.rest)
        buffer[:size] = watcher.rest
        try:
            read = watcher.socket.recv_into(self._view[size:])
        except ConnectionError:
            read = 0
        if not read:
            self._drop(watcher)
            return
        now, at, size = time.time(), 0, size + read
        while size >= at + 2:
            length, begin = buffer[at + 1], at + 2
            if length > 125:  # 126, then two bytes of length: no event is longer
                if size < at + 4:
                    break
                length, begin = buffer[at + 2] << 8 | buffer[at + 3], at + 4
            if size < begin + length:
                break
            if buffer[at] == _TEXT:
                self._frames += 1
                self._size += length
                self._last_at = now
                if self._is_timed:
                    self._ages.append(now - self._read_at(begin))
            elif buffer[at] == _PING:
                watcher.socket.send(_PONG)
            at = begin + length
        watcher.rest = bytes(self._view[at:size])

    def _drop(self, watcher: _Watcher) -> None:
        del self._watchers[watcher.socket.fileno()]
        watcher.socket.close()
        self._cut += 1

    def _read_at(self, begin: int) -> float:
        begin = self._buffer.index(_AT, begin) + len(_AT)
        text = bytes(self._view[begin : begin + _AT_LENGTH])
        if text not in self._at_of:
            self._at_of[text] = datetime.fromisoformat(text.decode()).timestamp()
        return self._at_of[text]


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and a pause would be counted as the server's
    _Watchers(int(sys.argv[1])).run()
