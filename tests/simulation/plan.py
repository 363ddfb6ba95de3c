"""A plan: all that a schedule does and suffers, made from its seed before it begins."""

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from random import Random
from typing import Final

from callactors.packets import Packet
from tests.simulation.weather import Fate, Weather

SERVERS: Final = ("north", "south", "west")
_SPAN: Final = 1.5  # seconds in which nearly all is sent and broken
IDLE_TIMEOUT: Final = 20.0


class Deed(StrEnum):
    """What a sender may want of a call."""

    SEND = "send"
    SEND_TOGETHER = "send together"
    COMPLETE = "complete"
    CANCEL = "cancel"
    RETRY = "retry"
    START_OVER = "cancel and retry at once"
    BEGIN = "begin a stream"
    END = "end a stream"
    DROP = "drop a stream"
    STATUS = "tell a status"


class Trouble(StrEnum):
    """What may happen to a server, or to the database."""

    CRASH = "crash"
    FREEZE = "freeze"
    STOP = "stop"
    STATEMENT = "statement"
    OUTAGE = "outage"
    LOCK = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One deed of a sender, *pause* seconds after its last one was answered; it hangs up after *patience*."""

    sender: int
    deed: Deed
    call_id: str
    server: int
    pause: float
    patience: float
    tries: int
    packets: tuple[Packet, ...] = ()
    stream: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that breaks at a time, and for how long; a crash comes some steps later."""

    at: float
    trouble: Trouble
    server: int
    seconds: float
    steps: int = 0
    fate: Fate = Fate.LOST_AFTER
    call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The rest of a schedule; times in seconds."""

    servers: int = 2
    is_shuffled: bool = False
    weather: Weather = field(default_factory=Weather)
    idle_timeout: float = IDLE_TIMEOUT
    call_idle_timeout: float = 3_600.0
    resident: int = 100
    mailbox: int = 256
    batch: int = 1_000
    grace: float = 0.0
    ack_timeout: float = 1_000.0
    drain_timeout: float = 10.0
    attempts_at_once: int = 200
    failures_to_pause: int = 0
    trouble_rate: float = 0.3
    """How often the provider does not simply succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One schedule."""

    seed: int
    conditions: Conditions
    operations: tuple[Operation, ...]
    faults: tuple[Fault, ...]

    @property
    def has_one_outage(self) -> bool:
        """Whether the heartbeats of all servers grow old together, if they do."""
        return sum(fault.trouble is Trouble.OUTAGE for fault in self.faults) <= 1

    @property
    def has_poison(self) -> bool:
        """Whether a packet is sent that the database refuses or that an actor cannot bear."""
        packets = (packet for operation in self.operations for packet in operation.packets)
        return any(packet.data in (UNSTORABLE, FATAL) for packet in packets)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}", f"  {self.conditions}"]
        lines += [f"  {operation}" for operation in self.operations]
        lines += [f"  {fault}" for fault in self.faults]
        return "\n".join(lines)


def make_plan(seed: int) -> Plan:
    """Return the plan of *seed*."""
    rng = Random(seed)
    conditions = _make_conditions(rng)
    calls = ["a", "b", "c"][: rng.randint(1, 3)]
    writer = _Writer(rng, conditions, calls)
    operations = writer.write(rng.randint(4, 16))
    wanted = [trouble for trouble in Trouble if rng.random() < 0.5]
    count = rng.choice((0, 1, 1, 2, 2, 3, 4)) if wanted else 0
    faults = [_make_fault(rng, rng.choice(wanted), conditions, calls) for _ in range(count)]
    if rng.random() < 0.1:
        operations.append(writer.start_over())
    return Plan(seed=seed, conditions=conditions, operations=tuple(operations), faults=tuple(faults))


def _make_conditions(rng: Random) -> Conditions:
    weather = rng.choice((Weather(), Weather(), Weather(way=0.02, commit=0.05), Weather(commit=0.4)))
    return Conditions(
        servers=rng.choice((1, 2, 2, 3)),
        is_shuffled=rng.random() < 0.5,
        weather=weather,
        idle_timeout=rng.choice((0.4, 60.0)),
        call_idle_timeout=rng.choice((2.0, 3_600.0, 3_600.0)),
        resident=rng.choice((1, 2, 100, 100)),
        mailbox=rng.choice((1, 3, 256)),
        batch=rng.choice((1, 2, 1_000, 1_000)),
        grace=rng.choice((0.0, 0.05, 0.5)),
        ack_timeout=rng.choice((2.0, 1_000.0, 1_000.0)),
        drain_timeout=rng.choice((0.3, 10.0)),
        attempts_at_once=rng.choice((1, 200)),
        failures_to_pause=rng.choice((0, 0, 2)),
        trouble_rate=rng.choice((0.0, 0.3, 0.8)),
    )


def _make_fault(rng: Random, trouble: Trouble, conditions: Conditions, calls: list[str]) -> Fault:
    seconds = rng.choice((0.05, 0.2, 0.5, 1.0, 4.0)) * (0.7 + 0.5 * rng.random())
    if trouble is Trouble.LOCK:
        seconds = min(seconds, 2.5)
    if trouble is Trouble.OUTAGE and seconds > 0.9:
        seconds = 4.5  # more than a lease: about as long as one, who takes whom for dead is chance
    return Fault(
        at=rng.random() * _SPAN,
        trouble=trouble,
        server=rng.randrange(conditions.servers),
        seconds=seconds,
        steps=rng.choice((0, 1, 2, 3, 5, 8, 13)),
        fate=rng.choice(list(Fate)),
        call_id=rng.choice(calls),
    )


_WEIGHTS: Final = {
    Deed.SEND: 50, Deed.SEND_TOGETHER: 10, Deed.COMPLETE: 10, Deed.CANCEL: 3, Deed.RETRY: 4
}  # fmt: skip
_VENDOR_WEIGHTS: Final = {Deed.BEGIN: 8, Deed.END: 4, Deed.DROP: 3, Deed.STATUS: 3}


class _Writer:
    """Writes the operations of some senders, who take turns at the calls."""

    def __init__(self, rng: Random, conditions: Conditions, calls: list[str]) -> None:
        self._rng = rng
        self._conditions = conditions
        self._calls = calls
        self._senders = rng.randint(1, 3)
        self._home = [rng.randrange(conditions.servers) for _ in range(self._senders)]
        self._sent: dict[str, list[Packet]] = {call_id: [] for call_id in calls}
        self._streams = ("", "x") if rng.random() < 0.4 else ("",)
        self._has_vendor = rng.random() < 0.3
        self._has_poison = rng.random() < 0.15
        self._haste = rng.choice((0.0, 0.02, 0.3))
        self._restlessness = rng.choice((0.1, 0.2, 0.7))
        weights = _WEIGHTS | _VENDOR_WEIGHTS if self._has_vendor else _WEIGHTS
        self._deeds, self._cum_weights = [*weights], [*accumulate(weights.values())]

    def write(self, count: int) -> list[Operation]:
        """Return *count* operations; each call is begun with packets."""
        first = [self._operate(Deed.SEND, call_id) for call_id in self._calls]
        return first + [self._operate(self._choose(), self._rng.choice(self._calls)) for _ in range(count)]

    def start_over(self) -> Operation:
        """Return an operation of somebody who wants a call to begin anew, whatever it is at."""
        return self._operate(Deed.START_OVER, self._rng.choice(self._calls))

    def _choose(self) -> Deed:
        return self._rng.choices(self._deeds, cum_weights=self._cum_weights)[0]

    def _operate(self, deed: Deed, call_id: str) -> Operation:
        rng = self._rng
        sender = rng.randrange(self._senders)
        is_elsewhere = rng.random() < self._restlessness
        count = rng.choice((1, 1, 1, 2, 3, 5)) if deed in (Deed.SEND, Deed.SEND_TOGETHER) else 0
        return Operation(
            sender=sender,
            deed=deed,
            call_id=call_id,
            server=rng.randrange(self._conditions.servers) if is_elsewhere else self._home[sender],
            pause=rng.random() * rng.choice((0.0, self._haste, 3 * self._haste)),
            patience=rng.choice((0.01, 0.2)) if rng.random() < 0.1 else 1_000.0,
            tries=rng.choice((1, 2, 4)),
            packets=tuple(self._packet(call_id) for _ in range(count)),
            stream=rng.choice(("s1", "s2")),
        )

    def _packet(self, call_id: str) -> Packet:
        rng = self._rng
        sent, stream = self._sent[call_id], rng.choice(self._streams)
        chance = rng.random()
        if sent and chance < 0.2:
            packet = rng.choice(sent)
            return packet if chance < 0.14 else packet.model_copy(update={"data": packet.data + "'"})
        last = max((packet.sequence for packet in sent if packet.stream == stream), default=0)
        sequence = last + (1 if chance < 0.85 else rng.randint(2, 3))
        if chance > 0.95 and last > 1:
            sequence = rng.randrange(last)
        packet = Packet(sequence=sequence, data=f"{stream}{sequence}", timestamp=1.0, stream=stream)
        if self._has_poison and rng.random() < 0.15:  # the database refuses one, the actor fails on the other
            return packet.model_copy(update={"data": rng.choice((UNSTORABLE, FATAL))})
        sent.append(packet)
        return packet


UNSTORABLE: Final = "a\x00b"
FATAL: Final = "fatal"
