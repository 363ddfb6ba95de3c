"""The statements of the store that the simulated database knows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from callactors.store import calls, claims, contents, due, flush, locks, nodes
from tests.simulation.functions import Locking, Record, claim_5, flush_3
from tests.simulation.tables import Transaction, dump


class Statement(NamedTuple):
    """What a query does: *run* is called with a transaction and the query's arguments."""

    name: str
    run: "Callable[..., Locking | list[Record]]"
    locks_rows: bool = False


def read_due(
    transaction: Transaction,
    after_at: float,
    after_no: int,
    me: str,
    may_take_stale: bool,
    lease: float,
    limit: int,
) -> list[Record]:
    tables = transaction.tables
    now = tables.clock()
    rows = sorted(
        (row.wake_at, row.call_no)
        for row in tables.calls.values()
        if row.wake_at is not None
        and row.wake_at <= now
        and (row.wake_at, row.call_no) > (after_at, after_no)
        and tables.may_be_taken(row.owner, me, may_take_stale, lease)
    )
    found = [(at, tables.calls[number].is_due, number) for at, number in rows[:limit]]
    return [
        {
            "call_no": number,
            "call_id": one.call_id,
            "wake_at": at,
            "in_progress": one.is_in_progress,
            "overdue": at < now - 1,
        }
        for at, one, number in found
    ]


def read_orphans(transaction: Transaction, me: str, may_take_stale: bool, lease: float) -> list[Record]:
    tables = transaction.tables
    return [
        {"call_id": row.call_id}
        for row in tables.calls.values()
        if (row.attempt_running or row.streaming)
        and row.owner not in (me, None)
        and tables.may_be_taken(row.owner, me, may_take_stale, lease)
    ]


def read_lost_streams(transaction: Transaction, me: str, may_take_stale: bool, lease: float) -> list[Record]:
    tables = transaction.tables
    return [
        {"call_id": row.call_id, "stream": stream, "server": server}
        for row in tables.calls.values()
        if row.streaming and row.owner in (me, None)
        for stream, server in row.legs.get("servers", {}).items()
        if server != me and tables.may_be_taken(server, me, may_take_stale, lease)
    ]


def find_locked(transaction: Transaction, ids: Iterable[str]) -> list[Record]:
    tables, others = transaction.tables, transaction.locks
    return [
        {"call_id": one}
        for one in ids
        if tables.find(one) is not None and others.get(one, transaction) is not transaction
    ]


def join(transaction: Transaction, name: str, forget: str) -> list[Record]:
    assert forget == "1 hour"
    tables = transaction.tables
    horizon = tables.clock() - 3_600
    for node in [one for one, beat in tables.nodes.items() if one.startswith(f"{name}/") or beat < horizon]:
        del tables.nodes[node]
    return []


def beat(transaction: Transaction, node: str, packet_rate: float, is_routed: bool) -> list[Record]:
    transaction.tables.nodes[node] = transaction.tables.clock()
    return []


def leave(transaction: Transaction, node: str) -> list[Record]:
    transaction.tables.nodes.pop(node, None)
    return []


def read_data(transaction: Transaction, call_id: str, stream: str, sequence: int) -> list[Record]:
    row = transaction.find(call_id)
    packet = None if row is None else transaction.packet(row.call_no, (stream, sequence))
    return [] if packet is None else [{"data": packet.data}]


def read_contents(transaction: Transaction, call_ids: Sequence[str]) -> list[Record]:
    found = [row for call_id in call_ids if (row := transaction.find(call_id)) is not None]
    return [
        {
            "call_id": row.call_id,
            "metadata": dump(row.metadata),
            "started_at": row.started_at,
            "completed_at": row.completed_at,
        }
        for row in found
    ]


STATEMENTS: Final[Mapping[str, Statement]] = {
    claims._CLAIM: Statement("claim", claim_5, locks_rows=True),
    flush._FLUSH: Statement("flush", flush_3, locks_rows=True),
    due._DUE: Statement("due", read_due),
    due._ORPHANS: Statement("orphans", read_orphans),
    due._LOST: Statement("lost streams", read_lost_streams),
    locks._LOCKED: Statement("locked", find_locked),
    nodes._JOIN: Statement("join", join),
    nodes._BEAT: Statement("beat", beat),
    nodes._LEAVE: Statement("leave", leave),
    calls._DATA: Statement("data", read_data),
    contents._READ: Statement("contents", read_contents),
}
