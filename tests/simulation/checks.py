"""What must hold: of each answer when it is given, of each attempt when it begins, and of all in the end."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from callactors.call import ATTEMPT_MARGIN
from callactors.errors import (
    ActorFailed,
    ActorStopped,
    CallClosed,
    Draining,
    SequenceConflict,
    StorageRefused,
    UnknownCall,
)
from callactors.facts import Accepted, Completed
from callactors.packets import Packet
from callactors.sequence import StreamSequence
from callactors.states import TRANSITIONS, CallState
from tests.simulation.plan import FATAL, UNSTORABLE, Deed
from tests.simulation.provider import Asked
from tests.simulation.servers import POLICY, Request
from tests.simulation.tables import CallRow, StoredEvent, Tables

_CRASHED = "the server stopped while the attempt ran"
_TOO_LATE = "ran past its deadline"
_STEPS = {(source, dest) for _, source, dest in TRANSITIONS}


def pair(packets: Sequence[Packet], answer: object) -> list[tuple[Packet, object]]:
    """Return each of *packets* with what the *answer* to all of them says of it."""
    if not isinstance(answer, list):
        return [(packet, answer) for packet in packets]
    each = [outcome for outcome in answer for _ in range(getattr(outcome, "packets", 1))]
    return list(zip(packets, each, strict=True))


def check_answer(
    tables: Tables, request: Request, answer: object, outcomes: Iterable[tuple[Packet, object]]
) -> Iterator[str]:
    """Compare an answer, and what it says of each packet, with what is committed as it is given."""
    row = tables.find(request.operation.call_id)
    match answer:
        case ActorStopped() | Draining() if request.server and not request.server.system.is_draining:
            yield f"{type(answer).__name__} from a server that does not stop"
        case ActorFailed() if all(packet.data != FATAL for packet in request.packets):
            yield "an actor fails"
        case Completed() if row is None or row.state == CallState.IN_PROGRESS:
            yield "a complete is answered that is not committed"
        case int() if request.operation.deed is Deed.CANCEL and not _was_canceled(tables, row):
            yield "a cancel is answered that is not committed"
        case int() if row is None or row.generation < answer:
            yield "a retry is answered that is not committed"
    for packet, outcome in outcomes:
        yield from _check_packet(tables, row, packet, outcome)


def _was_canceled(tables: Tables, row: CallRow | None) -> bool:
    events = {} if row is None else tables.events[row.call_no]
    return any(event.detail.get("end_reason") == "canceled" for event in events.values())


def _check_packet(tables: Tables, row: CallRow | None, packet: Packet, outcome: object) -> Iterator[str]:
    key = (packet.stream, packet.sequence)
    stored = None if row is None else tables.packets.get(row.call_no, {}).get(key)
    match outcome:
        case Accepted() if stored is None:
            yield f"packet {key} is acknowledged{' as a duplicate' * outcome.is_duplicate} and not committed"
        case Accepted() if stored is not None and stored.data != packet.data:
            yield f"packet {key} is acknowledged, and other data stored"
        case SequenceConflict() if stored is None or stored.data == packet.data:
            yield f"packet {key} is refused for other data, but there is none"
        case CallClosed() if row is None or CallState(row.state).takes_packets:
            yield f"packet {key} is refused, but the AI step has not started"
        case StorageRefused() if packet.data != UNSTORABLE:
            yield f"packet {key} is refused by the database, which would take it"


def check_unknown(request: Request, acked_at: float) -> Iterator[str]:
    """A call of which something was acknowledged is known from then on."""
    if acked_at < request.sent_at:
        yield f"{UnknownCall.__name__} although a packet was acknowledged before"


def check_flush(
    tables: Tables, nos: Iterable[int], epochs: Iterable[int], fenced: Collection[int]
) -> Iterator[str]:
    """What is stored was decided under the epoch that the call has."""
    for number, epoch in zip(nos, epochs, strict=True):
        row = tables.calls[number]
        if number not in fenced and row.epoch != epoch:
            yield f"{row.call_id}: what was decided under epoch {epoch} is stored over epoch {row.epoch}"


def check_change(before: CallRow, after: CallRow, *, is_calm: Callable[[], bool]) -> Iterator[str]:
    """Neither epoch nor version falls, and while all *is_calm* each server keeps the AI steps that it has."""
    if after.epoch < before.epoch or after.version < before.version:
        yield f"goes back from {before.epoch}, {before.version} to {after.epoch}, {after.version}"
    is_taken = before.owner is not None and after.owner not in (None, before.owner)
    if is_taken and before.state == CallState.PROCESSING_AI and is_calm():
        yield "its AI step is taken from a server that is alive"


def check_order(answers: Iterable[tuple[Packet, object]]) -> Iterator[str]:
    """What one sender sent one after the other was decided in that order."""
    before: list[tuple[Packet, Accepted]] = []
    for packet, answer in answers:
        if not isinstance(answer, Accepted):
            continue
        for earlier, its in before:
            is_missing = any(first <= earlier.sequence <= last for first, last in answer.gaps)
            if (earlier.stream == packet.stream and is_missing) or its.total_received > answer.total_received:
                yield f"packet {packet.sequence} was decided before {earlier.sequence}, which was sent first"
        before.append((packet, answer))


def generations(events: Iterable[StoredEvent]) -> Iterator[tuple[int, StoredEvent]]:
    """Yield the events with the generation that they belong to."""
    generation = 1
    for event in events:
        generation += event.from_state == CallState.FAILED and event.to_state == CallState.PROCESSING_AI
        yield generation, event


def count_starts(events: Iterable[StoredEvent]) -> Counter[tuple[int, int]]:
    """Return how often each attempt of each generation is stored as started."""
    return Counter(
        (generation, event.attempt)
        for generation, event in generations(events)
        if event.kind == "attempt" and event.detail["phase"] == "started"
    )


def check_asked(tables: Tables, asked: Asked, before: Iterable[Asked]) -> Iterator[str]:
    """An attempt is stored before it begins, and begins no more often than that, over all packets."""
    row = tables.find(asked.call_id)
    events = {} if row is None else tables.events[row.call_no]
    attempt = (asked.generation, asked.attempt)
    times = 1 + sum((one.call_id, one.generation, one.attempt) == (asked.call_id, *attempt) for one in before)
    if times > count_starts(events[version] for version in sorted(events))[attempt]:
        yield f"attempt {attempt} of {asked.call_id} begins, and is not stored as started"
    if row is not None and row.owner is not None and row.owner.startswith(f"{asked.server}/"):
        now = (row.generation, row.attempt) if row.attempt_running else None
        if now != attempt:
            yield f"attempt {attempt} of {asked.call_id} begins, but the call is at {now} in {row.state}"
    if row is not None and asked.packets != len(tables.packets[row.call_no]):
        yield f"attempt {attempt} of {asked.call_id} knows of {asked.packets} packets, not of all"


def check_call(tables: Tables, row: CallRow, asked: Sequence[Asked], disturbed: float) -> Iterator[str]:
    """Check a call in the end: its log, its row, and what the provider has seen of it.

    *disturbed* is how often a server or an actor was killed, stopped or frozen.
    """
    events = tables.events[row.call_no]
    log = [events[version] for version in sorted(events)]
    yield from (f"{row.call_id}: {finding}" for finding in _check_log(log))
    yield from (f"{row.call_id}: {finding}" for finding in _check_row(tables, row, log))
    yield from (f"{row.call_id}: {finding}" for finding in _check_attempts(log))
    yield from (f"{row.call_id}: {finding}" for finding in _check_provider(row, log, asked, disturbed))


def _check_log(log: Sequence[StoredEvent]) -> Iterator[str]:
    if [event.version for event in log] != list(range(1, len(log) + 1)):
        yield f"versions {[event.version for event in log]}"
    if [event.epoch for event in log] != sorted(event.epoch for event in log):
        yield f"epochs fall along the versions: {[event.epoch for event in log]}"
    state: str | None = None
    for event in log:
        is_step = event.kind == "transition"
        if event.from_state != state or (
            is_step and state is not None and (state, event.to_state) not in _STEPS
        ):
            yield f"version {event.version} leads from {event.from_state} to {event.to_state}, in {state}"
        state = event.to_state
    ends = Counter(
        generation
        for generation, event in generations(log)
        if event.kind == "transition" and CallState(event.to_state).is_final
    )
    if set(ends.values()) != {1} or len(ends) != max(generation for generation, _ in generations(log)):
        yield f"ends by generation: {dict(ends)}"


def _check_row(tables: Tables, row: CallRow, log: Sequence[StoredEvent]) -> Iterator[str]:
    last = log[-1]
    if (row.state, row.version) != (last.to_state, last.version):
        yield f"the row is at {row.state} {row.version}, the log at {last.to_state} {last.version}"
    stored = tables.packets.get(row.call_no, {})
    expected: dict[str, StreamSequence] = {}
    for stream, sequence in sorted(stored):
        expected[stream] = expected.get(stream, StreamSequence()).add(sequence)
    told = {
        name: StreamSequence(state["last"] + 1, tuple((a, b) for a, b in state["missing"]))
        for name, state in row.streams.items()
    }
    if row.packets != len(stored) or told != expected:
        yield f"the row tells of {row.packets} packets, {told}; stored are {len(stored)}, {expected}"


def _check_attempts(log: Sequence[StoredEvent]) -> Iterator[str]:
    attempt, started_at = 0, 0.0
    for generation, event in generations(log):
        if event.kind == "transition" and event.to_state == CallState.PROCESSING_AI:
            attempt = 0
        if event.kind != "attempt":
            continue
        phase = event.detail["phase"]
        if event.attempt != attempt + (phase == "started") or event.attempt > POLICY.max_attempts:
            yield f"attempt {event.attempt} {phase} after {attempt} in generation {generation}"
        if phase == "started":
            started_at = event.at
        elif event.detail.get("reason") == _TOO_LATE and event.at < started_at + ATTEMPT_MARGIN:
            yield f"attempt {attempt} is past its deadline after {event.at - started_at:.1f} s"
        attempt = event.attempt - (phase == "given back")


def _check_provider(
    row: CallRow, log: Sequence[StoredEvent], asked: Sequence[Asked], disturbed: float
) -> Iterator[str]:
    crashed = sum(event.detail.get("reason") == _CRASHED for event in log)
    if crashed > disturbed:
        yield f"{crashed} attempts are counted as crashed, {disturbed} servers were disturbed"
    results = [one.result for one in asked if one.generation == row.generation]
    if row.state == CallState.ARCHIVED and row.result is not None and row.result not in results:
        yield f"the result {row.result} is none that the provider gave"
    for generation in range(1, row.generation + 1):
        good = [one.is_good for one in asked if one.generation == generation]
        if sum(good[: len(good) - 1]) and len(good) - 1 - good.index(True) > disturbed:
            yield f"the provider was asked again {len(good) - 1 - good.index(True)} times after its result"
