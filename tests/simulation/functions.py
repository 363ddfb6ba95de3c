"""What claim_5 and flush_3 of sql/ do, told again in Python; a test compares them with PostgreSQL.

They are generators: each yields the ids of the calls whose rows it locks, and goes on when it has the lock.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Final

import asyncpg
from pydantic_core import from_json

from tests.simulation.tables import FINAL, CallRow, PacketKey, StoredEvent, StoredPacket, Transaction, dump

Record = dict[str, Any]
Locking = Generator[str, None, list[Record]]

_TAKEN_ANYWAY: Final = ("IN_PROGRESS", "COMPLETED")
_TOLD: Final = (
    "call_no", "call_id", "epoch", "state", "version", "generation", "attempt", "attempt_running",
    "crashes", "packets", "late", "duplicates", "end_reason",
)  # fmt: skip


def claim_5(
    transaction: Transaction,
    me: str,
    ids: Sequence[str],
    creates: Sequence[bool],
    spares: Sequence[str],
    may_take_stale: bool,
    lease: float,
    first_wake: float,
) -> Locking:
    tables = transaction.tables
    at = tables.clock()
    fresh: set[int] = set()
    absent = [one for one, is_new in zip(ids, creates, strict=True) if is_new and tables.find(one) is None]
    for call_id in sorted(absent):
        tables.made += 1
        number = tables.made  # it is used up, even if somebody else inserts the call
        yield call_id  # the unique index makes who inserts it too wait
        if transaction.find(call_id) is None:
            transaction.add(CallRow(number, call_id, me, at, at + first_wake))
            fresh.add(number)
    locked = sorted(one for one in ids if transaction.find(one) is not None)
    for call_id in locked:
        yield call_id
    taken = set(fresh)
    for call_id in locked:
        row = _found(transaction, call_id)
        if row.call_no not in fresh and (
            (row.state in _TAKEN_ANYWAY and call_id not in spares)
            or tables.may_be_taken(row.owner, me, may_take_stale, lease)
        ):
            transaction.write(row, epoch=row.epoch + 1, owner=me)
            taken.add(row.call_no)
    return [_tell(transaction, _found(transaction, call_id), taken, fresh) for call_id in locked]


def _found(transaction: Transaction, call_id: str) -> CallRow:
    row = transaction.find(call_id)
    assert row is not None
    return row


def _tell(transaction: Transaction, row: CallRow, taken: set[int], fresh: set[int]) -> Record:
    now = transaction.tables.clock()
    packets = transaction.packets(row.call_no)
    tail = _tail(row, packets)
    heard = [packets[key].received_at for key in tail]
    last = max([row.started_at, row.last_packet_at or row.started_at, *heard])
    return {
        **{name: getattr(row, name) for name in _TOLD},
        "is_mine": row.call_no in taken,
        "wake_in": None if row.wake_at is None else row.wake_at - now,
        "streams": dump(row.streams),
        "tail_streams": [stream for stream, _ in tail] or None,
        "tail_sequences": [sequence for _, sequence in tail] or None,
        "is_erased": False,
        "legs": dump(row.legs),
        "idle": 0.0 if row.call_no in fresh else now - last,
        "age": now - row.started_at,
        "step_age": _step_age(transaction, row),
    }


def _step_age(transaction: Transaction, row: CallRow) -> float | None:
    if row.state != "PROCESSING_AI":
        return None
    tables = transaction.tables
    begins = [
        (event.version, event.at)
        for event in tables.events.get(row.call_no, {}).values()
        if event.kind == "transition" and event.to_state == "PROCESSING_AI"
    ]
    return tables.clock() - max(begins)[1] if begins else None


def _tail(row: CallRow, packets: Iterable[PacketKey]) -> list[PacketKey]:
    """Do as tail_1."""
    checkpoint = {"": {"last": -1, "missing": []}} | row.streams
    found = [
        (stream, sequence)
        for stream, sequence in packets
        if (state := checkpoint.get(stream)) is not None
        and (sequence > state["last"] or any(a <= sequence <= b for a, b in state["missing"]))
    ]
    return sorted(found, key=lambda key: key[1])


def flush_3(
    transaction: Transaction, me: str, nos: Sequence[int], epochs: Sequence[int], *rest: Any
) -> Locking:
    runs, packets, (r_no, r_stream, r_sequence, r_data), rows, events = (
        rest[:4], rest[4:7], rest[7:11], rest[11], rest[12]
    )  # fmt: skip
    if "\x00" in "".join((*packets[1], *r_data)):
        raise asyncpg.CharacterNotInRepertoireError('invalid byte sequence for encoding "UTF8": 0x00')
    wanted = dict(zip(nos, epochs, strict=True))
    held: list[int] = []
    for call_id, number in sorted(
        (row.call_id, number) for number in wanted if (row := _hold(transaction, number, wanted, me))
    ):
        yield call_id
        if _hold(transaction, number, wanted, me):
            held.append(number)
    conflicts = _insert(transaction, list(_unroll(*runs)), packets, held) if packets[1] else None
    keys = [(number, (s, n)) for number, s, n in zip(r_no, r_stream, r_sequence, strict=True)]
    for row in from_json(rows) if rows else ():
        if row["call_no"] in held:
            _update(transaction, row)
    for event in from_json(events) if events else ():
        if event.pop("call_no") in held:
            call = _found(transaction, event.pop("call_id"))
            at = transaction.tables.clock()
            transaction.log(call.call_no, StoredEvent(**event, at=at, epoch=wanted[call.call_no]))
    return [
        {
            "fenced": [number for number in nos if number not in held] or None,
            "conflicts": conflicts,
            "repeat_conflicts": _stored_otherwise(transaction, keys, r_data) if keys else None,
        }
    ]


def _hold(transaction: Transaction, number: int, wanted: dict[int, int], me: str) -> CallRow | None:
    """Return the row if its epoch is still the *wanted* one, and its owner *me*."""
    row = transaction.row(number)
    return row if row and row.epoch == wanted[number] and row.owner == me else None


def _unroll(
    nos: Sequence[int], streams: Sequence[str], firsts: Sequence[int], counts: Sequence[int]
) -> Iterable[tuple[int, PacketKey]]:
    for number, stream, first, count in zip(nos, streams, firsts, counts, strict=True):
        for sequence in range(first, first + count):
            yield number, (stream, sequence)


def _insert(
    transaction: Transaction, keys: list[tuple[int, PacketKey]], packets: Sequence[Any], held: Sequence[int]
) -> list[int] | None:
    timestamps, datas, kinds = packets
    now = transaction.tables.clock()
    is_twice = False
    for (number, key), timestamp, data, kind in zip(
        keys, timestamps, datas, kinds or [None] * len(datas), strict=True
    ):
        if number in held and not transaction.put(number, key, StoredPacket(timestamp, data, kind, now)):
            is_twice = True
    return _stored_otherwise(transaction, keys, datas) if is_twice else None


def _stored_otherwise(
    transaction: Transaction, keys: Sequence[tuple[int, PacketKey]], datas: Sequence[str]
) -> list[int] | None:
    stored = [transaction.packet(number, key) for number, key in keys]
    pairs = enumerate(zip(stored, datas, strict=True), 1)
    return [position for position, (packet, data) in pairs if packet is None or packet.data != data] or None


def _update(transaction: Transaction, row: Record) -> None:
    call = transaction.row(row.pop("call_no"))
    assert call is not None
    if row["version"] < call.version or row["packets"] < call.packets:
        return
    now = transaction.tables.clock()
    wake_in, wakes_anew = row.pop("wake_in"), row.pop("wakes_anew")
    changed = {**row, "wake_at": call.wake_at, "owner": None if row.pop("released") else call.owner}
    if row["version"] > call.version or wakes_anew:
        changed["wake_at"] = None if wake_in is None else now + wake_in
    if row["packets"] > call.packets:
        last = [transaction.packet(call.call_no, (name, s["last"])) for name, s in row["streams"].items()]
        changed["last_packet_at"] = max((p.received_at for p in last if p), default=None)
    changed["completed_at"] = None if row["state"] == "IN_PROGRESS" else (call.completed_at or now)
    changed["finished_at"] = (call.finished_at or now) if row["state"] in FINAL else None
    changed["metadata"] = call.metadata | (row["metadata"] or {})
    for name in ("result", "last_error"):
        changed[name] = getattr(call, name) if row[name] is None else row[name]
    changed.pop("released")
    transaction.write(call, **changed)
