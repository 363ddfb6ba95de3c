"""The checker: what must hold between a history and the database after any fault. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby
from operator import attrgetter
from typing import Final

from tests.acceptance.history import History, Key, Stored, StoredCall, StoredEvent

FINAL: Final = frozenset({"ARCHIVED", "FAILED"})
EDGES: Final = frozenset(
    {
        (None, "IN_PROGRESS"),
        ("IN_PROGRESS", "COMPLETED"),
        ("COMPLETED", "PROCESSING_AI"),
        ("PROCESSING_AI", "ARCHIVED"),
        ("PROCESSING_AI", "FAILED"),
        ("FAILED", "PROCESSING_AI"),
    }
)
MAX_ATTEMPTS: Final = 4

_LAST_PHASES: Final = {"ARCHIVED": "succeeded", "FAILED": "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Figures, and findings; a clean one has no findings."""

    acked: int
    stored: int
    calls: int
    archived: int
    failed: int
    lost: Sequence[Key] = field(metadata={"means": "acked, but not stored with that content"})
    doubled: Sequence[Key] = field(metadata={"means": "stored more than once"})
    invented: Sequence[Key] = field(metadata={"means": "stored, but never sent so"})
    miscounted: Sequence[str] = field(metadata={"means": "the count is not that of the rows"})
    not_ended: Sequence[str] = field(metadata={"means": "completed, but not ended once a generation"})
    ended_unasked: Sequence[str] = field(metadata={"means": "nobody has completed it"})
    holes: Sequence[str] = field(metadata={"means": "versions are not 1..n"})
    bad_steps: Sequence[str] = field(metadata={"means": "not an edge from the state before"})
    bad_attempts: Sequence[str] = field(metadata={"means": "attempts not numbered, ended or bounded as told"})
    unlike_log: Sequence[str] = field(metadata={"means": "the row is not what its log replays to"})

    @property
    def findings(self) -> Mapping[str, Sequence[object]]:
        """Every check that went red, with what it found."""
        checks = (f.name for f in fields(self) if "means" in f.metadata)
        return {name: found for name in checks if (found := getattr(self, name))}

    def table(self) -> str:
        """One line a figure, then one line a check."""
        lines = []
        for column in fields(self):
            value = getattr(self, column.name)
            if "means" in column.metadata:
                few = f"  {column.metadata['means']}: {list(value[:3])}" if value else ""
                lines.append(f"{column.name:<14}{len(value):>8}{few}")
            else:
                lines.append(f"{column.name:<14}{value:>8}")
        return "\n".join(lines)


def check(history: History, stored: Stored, told_packets: Mapping[str, int] | None = None) -> Report:
    """Compare *history* with *stored*; *told_packets* is what the API says each call has."""
    logs = {call_id: list(log) for call_id, log in groupby(stored.events, attrgetter("call_id"))}
    states = Counter(call.state for call in stored.calls)
    return Report(
        acked=len(history.acked),
        stored=len(stored.packets),
        calls=len(stored.calls),
        archived=states["ARCHIVED"],
        failed=states["FAILED"],
        lost=find_lost(history, stored),
        doubled=find_doubled(stored),
        invented=find_invented(history, stored),
        miscounted=find_miscounted(stored, told_packets or {}),
        not_ended=[c.call_id for c in stored.calls if not _has_ended(c, logs.get(c.call_id, ()), history)],
        ended_unasked=[
            c.call_id
            for c in stored.calls
            if c.state != "IN_PROGRESS" and c.call_id not in history.completes_sent
        ],
        holes=[i for i, log in logs.items() if [e.version for e in log] != list(range(1, len(log) + 1))],
        bad_steps=[i for i, log in logs.items() if not _are_steps(log)],
        bad_attempts=[i for i, log in logs.items() if not _are_attempts(log)],
        unlike_log=[c.call_id for c in stored.calls if not _is_replayed(c, logs.get(c.call_id, ()))],
    )


def find_lost(history: History, stored: Stored) -> list[Key]:
    """Return what a 202 promised and the database does not have, or has with other data."""
    held = {packet.key: packet.content.data for packet in stored.packets}
    return [key for key, data in history.acked.items() if held.get(key) != data]


def find_doubled(stored: Stored) -> list[Key]:
    """Return what is stored more than once."""
    counts = Counter(packet.key for packet in stored.packets)
    return [key for key, count in counts.items() if count > 1]


def find_invented(history: History, stored: Stored) -> list[Key]:
    """Return what is stored although nobody has sent it, or not with this content."""
    return [p.key for p in stored.packets if p.content not in history.sent.get(p.key, ())]


def find_miscounted(stored: Stored, told_packets: Mapping[str, int]) -> list[str]:
    """Return the calls whose count is not that of their packets.

    The row's own count may lag while the call lives, so there only what the API tells is compared.
    """
    rows = Counter(packet.key.call_id for packet in stored.packets)
    told = {call.call_id: call.packets for call in stored.calls if call.state in FINAL} | dict(told_packets)
    return [call_id for call_id, count in told.items() if count != rows[call_id]]


def _has_ended(call: StoredCall, log: Sequence[StoredEvent], history: History) -> bool:
    if call.state == "IN_PROGRESS" and call.call_id not in history.completed:
        return True
    ends = [_count_ends(generation) for generation in generations(log)]
    return call.state in FINAL and set(ends) == {1} and len(ends) == call.generation


def generations(log: Sequence[StoredEvent]) -> Iterator[list[StoredEvent]]:
    """Split *log* before each retry by a person."""
    part: list[StoredEvent] = []
    for event in log:
        if (event.from_state, event.to_state) == ("FAILED", "PROCESSING_AI"):
            yield part
            part = []
        part.append(event)
    yield part


def _count_ends(log: Sequence[StoredEvent]) -> int:
    return sum(event.kind == "transition" and event.to_state in FINAL for event in log)


def _are_steps(log: Sequence[StoredEvent]) -> bool:
    state: str | None = None
    for event in log:
        step = (event.from_state, event.to_state)
        is_edge = step in EDGES if event.kind == "transition" else step == ("PROCESSING_AI",) * 2
        if event.from_state != state or not is_edge:
            return False
        state = event.to_state
    return True


def _are_attempts(log: Sequence[StoredEvent]) -> bool:
    """Attempts count from 1 in each generation, one at a time; one given back does not count."""
    return all(_are_attempts_of_one(generation) for generation in generations(log))


def _are_attempts_of_one(log: Sequence[StoredEvent]) -> bool:
    counted, running = 0, False
    last_phase = None
    for event in log:
        if event.kind == "attempt":
            phase = last_phase = event.detail["phase"]
            if running == (phase == "started") or event.attempt != counted + 1:
                return False
            running = phase == "started"
            counted += phase in ("succeeded", "failed")
        elif event.to_state in FINAL and last_phase not in (None, _LAST_PHASES[event.to_state]):
            return False
    return counted <= MAX_ATTEMPTS


def _is_replayed(call: StoredCall, log: Sequence[StoredEvent]) -> bool:
    if not log:
        return False
    return (call.state, call.version) == (log[-1].to_state, log[-1].version)
