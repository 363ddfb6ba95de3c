"""What a round leaves behind: everything that a checker may look at. Plain data, no I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tests.acceptance.history import Content, History, Key, Stored


class Outcome(StrEnum):
    """What a sender knows of an operation."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Op:
    """One operation of a sender, written down before it goes out and again when its answer has come.

    *kind* is "packet", "frame" (a packet over a WebSocket), "body" (packets as NDJSON), "conflict" (a packet
    whose sequence was acknowledged with other data) or "complete". *server* is the number of the server that
    it went to. Times are seconds of the monotonic clock; *ended_at* is None while there is no answer. Of a
    refusal, *status* and *slug* are those of its problem; *slug* is None if the answer was no problem
    details. A frame's problem comes without Retry-After.
    """

    number: int
    sender: int
    kind: str
    call_id: str
    keys: Sequence[Key]
    sent_at: float
    server: int = 0
    ended_at: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    status: int | None = None
    slug: str | None = None
    has_retry_after: bool = False


@dataclass(slots=True)
class FaultHistory(History):
    """The operations of all senders, in the order of sending, beside what a plain history keeps."""

    ops: list[Op] = field(default_factory=list)
    acks: list[float] = field(default_factory=list)
    """When each packet was acknowledged for the first time, by the monotonic clock: in order."""

    def begin(
        self,
        sender: int,
        kind: str,
        call_id: str,
        packets: Sequence[tuple[Key, Content]],
        at: float,
        server: int = 0,
    ) -> Op:
        """Write down what is about to be sent."""
        for key, content in packets:
            self.send(key, content)
        op = Op(len(self.ops), sender, kind, call_id, [key for key, _ in packets], at, server)
        self.ops.append(op)
        return op

    def acknowledge(self, packets: Iterable[tuple[Key, Content]], at: float) -> None:
        """Write down that each of *packets* was answered as stored."""
        for key, content in packets:
            if key not in self.acked:
                self.acks.append(at)
            self.ack(key, content)


class Claim(NamedTuple):
    """A call's row as it was seen at some moment of the round."""

    call_id: str
    epoch: int
    version: int
    owner: str | None = None


class Fault(NamedTuple):
    """When servers of a cluster were struck, and the calls that they had: each with its server's number."""

    at: float
    owners: Mapping[str, int]


class Request(NamedTuple):
    """A request that the AI provider has got. *token* is what it answered with, unique; None if it failed."""

    idempotency_key: str
    call_id: str
    generation: int
    attempt: int
    token: str | None


class Resources(NamedTuple):
    """What a server process holds on to: *files* without the *connections* to the database."""

    tasks: int
    files: int
    connections: int
    resident: int


class Stop(NamedTuple):
    """How a server ended when it was asked to: after seconds, with these codes for supervisors' sockets."""

    exit_code: int
    seconds: float
    close_codes: Sequence[int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a nemesis may cost; None is not judged. Seconds, bytes, and acks a second."""

    first_ack: float | None = 2.0
    progress: float | None = None
    longest_op: float | None = 8.0
    peak_memory: int = 400 * 1024 * 1024
    stop_deadline: float = 12.0
    slugs: frozenset[str] = frozenset(
        {"storage-unavailable", "call-backpressure", "overloaded", "draining", "fenced"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One round. `faults_at` is the first fault and `heals` are the ends of all of them, monotonic."""

    history: FaultHistory
    stored: Stored
    claims: Sequence[Claim]
    """Rows in the order in which they were seen; of a cluster every one that there was."""
    provider: Sequence[Request]
    supervisors: Counter[str]
    """What judging each supervisor found, summed up: see tests.acceptance.floor.FINDINGS."""
    faults_at: float
    heals: Sequence[float]
    before: Resources | None
    after: Resources | None
    peak_memory: int
    server_log: str
    stops: Sequence[Stop]
    expected: Expected
    faults: Sequence[Fault] = ()
    """Those that a cluster has recovered from."""

    @property
    def healed_at(self) -> float:
        return self.heals[-1]
