"""One call that sends flat out: `python -m tests.benchmarks.loud PLAN` prints `sending`, then a Heard.

It sends until its stdin ends, and then waits for what is not answered yet.
"""

import itertools
import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final, Literal

from tests.benchmarks.load import DATA, Load, Plan

Kind = Literal["ndjson", "single"]

_PACKET: Final = f'{{"sequence":%d,"data":"{DATA}","timestamp":1700000000.25}}\n'.encode()
_TOGETHER: Final = 200  # lines of a chunk of the body
_SLICE: Final = 0.05
_STREAMS: Final = 100  # as many as a call may have


@dataclass(frozen=True, slots=True, kw_only=True)
class LoudPlan:
    """Send to one call at *port*: one body of NDJSON, or single packets over so many *connections*."""

    kind: Kind
    port: int
    call_id: str
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the loud call was told in *seconds*: packets stored, and other answers by their status."""

    stored: int
    others: dict[str, int]
    seconds: float

    @property
    def rate(self) -> float:
        return self.stored / self.seconds


def send_lines(plan: LoudPlan) -> tuple[int, dict[str, int]]:
    """Post one body of many chunks, and return how many of its packets are stored."""
    with socket.create_connection(("127.0.0.1", plan.port)) as wire:
        wire.sendall(
            f"POST /v1/call/stream/{plan.call_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        for start in itertools.count(1, _TOGETHER):
            lines = b"".join([_PACKET % number for number in range(start, start + _TOGETHER)])
            wire.sendall(b"%x\r\n%b\r\n" % (len(lines), lines))
            if start == 1:
                print("sending", flush=True)
            if is_over():
                break
        wire.sendall(b"0\r\n\r\n")
        return read_answer(wire)


def read_answer(wire: socket.socket) -> tuple[int, dict[str, int]]:
    """Return how many packets of a body are stored, and the status if it is another than 202."""
    head, _, body = b"".join(iter_until_told(wire)).partition(b"\r\n\r\n")
    status, told = head[9:12].decode(), json.loads(body)
    return (int(told["packets"]), {}) if status == "202" else (int(told["stored"]), {status: 1})


def iter_until_told(wire: socket.socket) -> Iterator[bytes]:
    """Yield an answer's parts until its JSON, which is an object, has ended."""
    told = b""
    while not told.endswith(b"}"):
        told = wire.recv(65_536)
        if not told:
            raise ConnectionError("the server has closed the connection")
        yield told


def send_single(plan: LoudPlan) -> tuple[int, dict[str, int]]:
    """Send a packet on each connection as soon as the one before is answered.

    The call has as many streams as it may, so that packets which overtake each other leave few gaps.
    """
    load = Load(
        Plan(
            port=plan.port,
            pid=0,
            prefix=plan.call_id,
            seconds=0,
            connections=plan.connections,
            calls=plan.connections,
            streams=_STREAMS,
        )
    )
    print("sending", flush=True)
    while not is_over():
        load.run(_SLICE)
    load.drain()
    return load.counts()


def is_over() -> bool:
    """Return whether stdin has ended."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable)


if __name__ == "__main__":
    loud = LoudPlan(**json.loads(sys.argv[1]))
    begin = time.perf_counter()
    stored, others = send_lines(loud) if loud.kind == "ndjson" else send_single(loud)
    print(json.dumps(asdict(Heard(stored=stored, others=others, seconds=time.perf_counter() - begin))))
