"""The tables of the simulated database, and a transaction on them."""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from callactors.store.due import Due

FINAL: Final = ("ARCHIVED", "FAILED")


class StoredPacket(NamedTuple):
    """A row of `packets`."""

    timestamp: float
    data: str
    kind: str | None
    received_at: float


class StoredEvent(NamedTuple):
    """A row of `call_events`, when it was written by the database's clock, and under which epoch."""

    version: int
    kind: str
    from_state: str | None
    to_state: str
    attempt: int
    detail: dict[str, Any]
    at: float
    epoch: int


class CallRow(NamedTuple):
    """A row of `calls`; times are the database's seconds. What is in it is replaced, never changed."""

    call_no: int
    call_id: str
    owner: str | None
    started_at: float
    wake_at: float | None
    state: str = "IN_PROGRESS"
    version: int = 1
    epoch: int = 1
    generation: int = 1
    attempt: int = 0
    attempt_running: bool = False
    crashes: int = 0
    streams: dict[str, Any] = {}  # noqa: RUF012  # shared, as nothing changes it
    packets: int = 0
    late: int = 0
    duplicates: int = 0
    last_packet_at: float | None = None
    completed_at: float | None = None
    finished_at: float | None = None
    end_reason: str | None = None
    metadata: dict[str, Any] = {}  # noqa: RUF012  # as above
    result: Any = None
    last_error: dict[str, Any] | None = None
    legs: dict[str, Any] = {}  # noqa: RUF012  # as above
    streaming: bool = False

    @property
    def has_ended(self) -> bool:
        return self.state in FINAL

    @property
    def is_due(self) -> Due:
        return Due(self.call_id, self.state == "IN_PROGRESS")


PacketKey = tuple[str, int]


class Tables:
    """What is committed. *clock* is the database's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.calls: dict[int, CallRow] = {}
        self.numbers: dict[str, int] = {}
        self.packets: dict[int, dict[PacketKey, StoredPacket]] = {}
        self.events: dict[int, dict[int, StoredEvent]] = {}
        self.nodes: dict[str, float] = {}
        self.made = 0
        """How many numbers were given to calls; none is given twice."""

    def find(self, call_id: str) -> CallRow | None:
        """Return the call as it is committed."""
        number = self.numbers.get(call_id)
        return None if number is None else self.calls[number]

    def is_alive(self, node: str, lease: float) -> bool:
        """Do as is_alive_1."""
        beat = self.nodes.get(node)
        return beat is not None and beat > self.clock() - lease

    def may_be_taken(self, owner: str | None, me: str, may_take_stale: bool, lease: float) -> bool:
        """Whether a call of *owner* is nobody's, a dead node's, or *me*'s."""
        if owner is None or owner == me or owner not in self.nodes:
            return True
        return may_take_stale and not self.is_alive(owner, lease)


class Transaction:
    """Sees what is committed and what it has written itself; nobody else sees that before it commits."""

    __slots__ = ("_events", "_packets", "_rows", "held", "locks", "tables")

    def __init__(self, tables: Tables, locks: "dict[str, Transaction]") -> None:
        self.tables = tables
        self.locks = locks
        self.held: list[str] = []
        self._rows: dict[int, CallRow] = {}
        self._packets: dict[tuple[int, PacketKey], StoredPacket] = {}
        self._events: dict[tuple[int, int], StoredEvent] = {}

    def find(self, call_id: str) -> CallRow | None:
        """Return the call with *call_id*."""
        committed = self.tables.find(call_id)
        if committed is not None:
            return self._rows.get(committed.call_no) or committed
        return next((row for row in self._rows.values() if row.call_id == call_id), None)

    def row(self, call_no: int) -> CallRow | None:
        """Return the call with *call_no*."""
        return self._rows.get(call_no) or self.tables.calls.get(call_no)

    def add(self, row: CallRow) -> None:
        """Insert *row*, whose call_id is locked, with its first event."""
        self._rows[row.call_no] = row
        self.log(
            row.call_no, StoredEvent(1, "transition", None, "IN_PROGRESS", 0, {}, self.tables.clock(), 1)
        )

    def write(self, row: CallRow, **columns: Any) -> CallRow:
        """Update *row*, which is locked."""
        self._rows[row.call_no] = changed = row._replace(**columns)
        return changed

    def packet(self, call_no: int, key: PacketKey) -> StoredPacket | None:
        """Return the packet with *key*."""
        own = self._packets.get((call_no, key))
        return own or self.tables.packets.get(call_no, {}).get(key)

    def put(self, call_no: int, key: PacketKey, packet: StoredPacket) -> bool:
        """Insert *packet*, and return whether it was not there yet."""
        is_new = self.packet(call_no, key) is None
        if is_new:
            self._packets[call_no, key] = packet
        return is_new

    def packets(self, call_no: int) -> dict[PacketKey, StoredPacket]:
        """Return all packets of the call."""
        found = dict(self.tables.packets.get(call_no, {}))
        for (number, key), packet in self._packets.items():
            if number == call_no:
                found[key] = packet
        return found

    def log(self, call_no: int, event: StoredEvent) -> None:
        """Insert *event* unless there is one with its version."""
        if event.version not in self.tables.events.get(call_no, {}):
            self._events.setdefault((call_no, event.version), event)

    def commit(self) -> list[CallRow]:
        """Let all others see it, and return the rows of the calls that were written."""
        tables = self.tables
        for number, row in self._rows.items():
            tables.calls[number] = row
            tables.numbers[row.call_id] = number
        for (number, key), packet in self._packets.items():
            tables.packets.setdefault(number, {})[key] = packet
        for (number, version), event in self._events.items():
            tables.events.setdefault(number, {})[version] = event
        return list(self._rows.values())


def dump(column: Any) -> str | None:
    """Return what asyncpg tells of a column of jsonb."""
    if column == {}:
        return "{}"
    return None if column is None else json.dumps(column)
