"""What must hold after a round, whatever broke in it: one checker a promise. Pure."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from callactors.web.problems import PROBLEMS
from tests.acceptance import checker
from tests.acceptance.floor import FINDINGS
from tests.acceptance.history import Key, Stored
from tests.acceptance.server import find_faults
from tests.faults.evidence import Claim, Evidence, Op, Outcome, Request, Resources, Stop

Checker = Callable[[Evidence], list[str]]

_WIDTH: Final = 110
_TAIL: Final = 5
_PROGRESS_KINDS: Final = frozenset({"packet", "body", "frame", "complete"})
_FINAL_SLUGS: Final = frozenset({"call-closed", "sequence-window"})  # sending again would not help
_SLUGS_OF_KIND: Final[Mapping[str, frozenset[str]]] = {
    "conflict": frozenset({"sequence-conflict"}),
    "complete": frozenset({"unknown-call"}),
}
_KNOWN_SLUGS: Final = frozenset(problem.slug for problem in PROBLEMS.values())
_SPARE: Final = {"tasks": 0, "files": 0, "connections": 8}  # these are opened when they are needed
_SERVICE_RESTART: Final = 1012


class Counts(NamedTuple):
    """One row of the table: all are packets but *operations* and *unknown*, which are operations of senders.

    *first_ack* is the longest that it took from the end of a fault to the next ack, in seconds; None if there
    was none after one of them.
    """

    operations: int
    acked: int
    unknown: int
    lost: int
    duplicated: int
    invented: int
    first_ack: float | None


def check(evidence: Evidence) -> dict[str, list[str]]:
    """Return what the checkers that went red have found, one short line a finding."""
    found = {name: find(evidence) for name, find in CHECKERS.items()}
    return {name: [line[:_WIDTH] for line in lines] for name, lines in found.items() if lines}


def count(evidence: Evidence) -> Counts:
    """Return the figures of a round; how many packets a checker found, each once."""
    history, stored = evidence.history, evidence.stored
    return Counts(
        operations=len(history.ops),
        acked=len(history.acked),
        unknown=sum(op.outcome is Outcome.UNKNOWN for op in history.ops),
        lost=len(checker.find_lost(history, stored)),
        duplicated=len(checker.find_doubled(stored)),
        invented=len(set(checker.find_invented(history, stored))),
        first_ack=_longest_wait(evidence),
    )


def find_lost(evidence: Evidence) -> list[str]:
    """Every acknowledged packet is stored exactly once, with the data it was acknowledged with."""
    history, stored = evidence.history, evidence.stored
    lost = checker.find_lost(history, stored)
    places = _places(lost, list(history.acked))
    doubled = [f"stored more than once: {_name(key)}" for key in checker.find_doubled(stored)]
    return [f"lost, {place}: {_name(key)}" for key, place in zip(lost, places, strict=True)] + doubled


def find_invented(evidence: Evidence) -> list[str]:
    """Nothing is stored that nobody sent, and no other data is taken under a sequence that has some."""
    invented = checker.find_invented(evidence.history, evidence.stored)
    taken = [op for op in evidence.history.ops if op.kind == "conflict" and op.outcome is Outcome.OK]
    return [f"never sent: {_name(key)}" for key in invented] + [f"taken: {_tell(op)}" for op in taken]


def find_bad_logs(evidence: Evidence) -> list[str]:
    """The versions of a call are 1..n, and each step is an edge."""
    return _reported(evidence, "holes", "bad_steps")


def find_wrong_ends(evidence: Evidence) -> list[str]:
    """A call that was completed has ended once a generation, and no other call has."""
    missing = evidence.history.completed - {call.call_id for call in evidence.stored.calls}
    gone = [f"completed, but not stored: {call_id}" for call_id in sorted(missing)]
    return gone + _reported(evidence, "not_ended", "ended_unasked")


def find_wrong_results(evidence: Evidence) -> list[str]:
    """The provider is asked as the log tells, and a result is what the attempt that succeeded was given."""
    attempts = list(_attempts(evidence.stored))
    asked = _judge_requests(evidence.provider, Counter(attempts))
    return [*asked, *_judge_results(evidence, attempts)]


def find_bad_rows(evidence: Evidence) -> list[str]:
    """A call's row is what its log replays to, and counts what there is."""
    return _reported(evidence, "unlike_log", "bad_attempts", "miscounted")


def find_misled_supervisors(evidence: Evidence) -> list[str]:
    """Each supervisor saw every transition once, in order, and ended with the state of the database."""
    return [f"{name}: {evidence.supervisors[name]}" for name in FINDINGS if evidence.supervisors[name] > 0]


def find_stale_writes(evidence: Evidence) -> list[str]:
    """The epoch and the version of a call never fall, and an epoch has one owner."""
    last: dict[str, Claim] = {}
    owners: dict[tuple[str, int], str] = {}
    found = []
    for claim in evidence.claims:
        owner = claim.owner and owners.setdefault((claim.call_id, claim.epoch), claim.owner)
        if owner != claim.owner:
            found.append(f"epoch {claim.epoch} of {claim.call_id} has two owners: {owner}, {claim.owner}")
        before = last.get(claim.call_id, claim)
        if claim.epoch < before.epoch:
            found.append(f"the epoch of {claim.call_id} falls from {before.epoch} to {claim.epoch}")
        if claim.version < before.version:
            found.append(f"the version of {claim.call_id} falls from {before.version} to {claim.version}")
        last[claim.call_id] = claim
    return found


def find_slow_recovery(evidence: Evidence) -> list[str]:
    """After each fault a packet is soon acknowledged, and at the end all goes well for every sender."""
    limit, wait = evidence.expected.first_ack, _longest_wait(evidence)
    found = []
    if limit is not None and (wait is None or wait > limit):
        after = "none" if wait is None else f"{wait:.3f} s"
        found.append(f"first ack after a fault: {after}, allowed {limit:g} s")
    failed = (op for tail in _tails(evidence) for op in tail if not _is_settled(op))
    return found + [f"among the last {_TAIL} of a sender: {_tell(op)}" for op in failed]


def find_bad_refusals(evidence: Evidence) -> list[str]:
    """Each refusal is a known problem and says when to come again; no answer and no log shows a bug."""
    slugs = (evidence.expected.slugs | _FINAL_SLUGS) & _KNOWN_SLUGS
    ops = evidence.history.ops
    found = [f"{wrong}: {_tell(op)}" for op in ops for wrong in _judge_answer(op, slugs)]
    return found + [f"log: {_shorten(record)}" for record in find_faults(evidence.server_log)]


def find_leaks(evidence: Evidence) -> list[str]:
    """A server that has nothing to do holds what it held before, and no call."""
    before, after = evidence.before, evidence.after
    return [] if before is None or after is None else tell_leaks(before, after)


def tell_leaks(before: Resources, after: Resources) -> list[str]:
    """Say what a server holds *after* its work that it did not hold *before*."""
    pairs = [(name, getattr(before, name), getattr(after, name), spare) for name, spare in _SPARE.items()]
    found = [f"{name}: {now}, before {then}" for name, then, now, spare in pairs if now > then + spare]
    return found + ([f"resident calls: {after.resident}"] if after.resident else [])


def find_excess_memory(evidence: Evidence) -> list[str]:
    """The server's memory stays below its cap through the fault."""
    peak, limit = evidence.peak_memory, evidence.expected.peak_memory
    return [f"peak memory: {peak:,} bytes, allowed {limit:,}"] if peak > limit else []


def find_standstill(evidence: Evidence) -> list[str]:
    """A fault that should not stop the world does not."""
    rate = evidence.expected.progress
    acks, begin, end = evidence.history.acks, evidence.faults_at, evidence.healed_at
    done = bisect_right(acks, end) - bisect_left(acks, begin)
    if rate is None or done >= rate * (end - begin):
        return []
    return [f"{done} acks in {end - begin:.1f} s of faults, expected {rate:g} a second"]


def find_bad_stops(evidence: Evidence) -> list[str]:
    """A server that is asked to stop ends in time, with 0, and tells its supervisors to come again."""
    return [wrong for stop in evidence.stops for wrong in _judge_stop(stop, evidence.expected.stop_deadline)]


def find_slow_ops(evidence: Evidence) -> list[str]:
    """No answer takes longer than the longest that is allowed."""
    limit = evidence.expected.longest_op
    answered = [(op, op.ended_at - op.sent_at) for op in evidence.history.ops if op.ended_at is not None]
    return [f"{took:.3f} s: {_tell(op)}" for op, took in answered if limit is not None and took > limit]


CHECKERS: Final[Mapping[str, Checker]] = {
    "C1": find_lost,
    "C2": find_invented,
    "C3": find_bad_logs,
    "C4": find_wrong_ends,
    "C5": find_wrong_results,
    "C6": find_bad_rows,
    "C7": find_misled_supervisors,
    "C8": find_stale_writes,
    "C9": find_slow_recovery,
    "C10": find_bad_refusals,
    "C11": find_leaks,
    "C12": find_excess_memory,
    "C13": find_standstill,
    "C14": find_bad_stops,
    "C15": find_slow_ops,
}


class _Attempt(NamedTuple):
    """An attempt of the AI step. One that was given back has the same number as the one after it."""

    call_id: str
    generation: int
    attempt: int

    def __str__(self) -> str:
        return f"attempt {self.attempt} of {self.call_id}, generation {self.generation}"


def _name(key: Key) -> str:
    return f"{key.call_id}/{key.stream}/{key.sequence}"


def _tell(op: Op) -> str:
    answer = op.outcome if op.outcome is not Outcome.REFUSED else f"{op.status} {op.slug}"
    return f"op {op.number}, {op.kind} of {op.call_id} by sender {op.sender}: {answer}"


def _shorten(record: str) -> str:
    """Return the first and the last line of a log record: where it comes from, and the error."""
    lines = record.strip().splitlines()
    return lines[0][:50] if len(lines) == 1 else f"{lines[0][:50]} ... {lines[-1][:50]}"


def _reported(evidence: Evidence, *names: str) -> list[str]:
    """Return what the acceptance tests' checker reports under *names*."""
    report = checker.check(evidence.history, evidence.stored)
    return [f"{name}: {call_id}" for name in names for call_id in getattr(report, name)]


def _places(lost: Collection[Key], acked: Sequence[Key]) -> list[str]:
    """Say of each of *lost*, in the order of *acked*, whether it is of the run at an end, or between."""
    missing = set(lost)
    kept = [n for n, key in enumerate(acked) if key not in missing]
    if not kept:
        return ["all"] * len(lost)
    before, behind = kept[0], len(acked) - 1 - kept[-1]
    return ["prefix"] * before + ["middle"] * (len(lost) - before - behind) + ["postfix"] * behind


def _attempts(stored: Stored) -> Iterator[tuple[_Attempt, str]]:
    """Yield the attempt and the phase that each event of an attempt tells, log by log."""
    for call_id, log in groupby(stored.events, attrgetter("call_id")):
        for generation, part in enumerate(checker.generations(list(log)), 1):
            for event in part:
                if event.kind == "attempt":
                    yield _Attempt(call_id, generation, event.attempt), event.detail["phase"]


def _judge_requests(requests: Sequence[Request], told: Mapping[tuple[_Attempt, str], int]) -> Iterator[str]:
    """Compare *requests* with how often the logs have *told* each phase of an attempt."""
    for request in requests:
        if request.idempotency_key != f"{request.call_id}:{request.generation}":
            yield f"key {request.idempotency_key!r} for {_of(request)}"
    for attempt, times in Counter(_of(request) for request in requests).items():
        if not told.get((attempt, "started"), 0):
            yield f"asked, but not started: {attempt}"
        elif times > 1 + told.get((attempt, "given back"), 0):
            yield f"asked {times} times: {attempt}"


def _judge_results(evidence: Evidence, attempts: Sequence[tuple[_Attempt, str]]) -> Iterator[str]:
    succeeded = {attempt.call_id: attempt for attempt, phase in attempts if phase == "succeeded"}
    packets = Counter(packet.key.call_id for packet in evidence.stored.packets)
    given: defaultdict[_Attempt | None, set[str | None]] = defaultdict(set)
    for request in evidence.provider:
        given[_of(request)].add(request.token)
    for call in evidence.stored.calls:
        if call.state == "ARCHIVED":
            tokens = given[succeeded.get(call.call_id)]
            for wrong in _judge_result(call.result, tokens, packets[call.call_id]):
                yield f"{call.call_id}: {wrong}"


def _judge_result(result: Any, tokens: Collection[str | None], packets: int) -> Iterator[str]:
    match result:
        case None:
            if packets:
                yield f"archived without a result, with {packets} packets"
        case {"token": str(token), "packets": int(counted), **rest} if not rest:
            if token not in tokens:
                yield f"token {token!r} was not given to the attempt that succeeded"
            if counted != packets:
                yield f"its result is of {counted} packets, stored are {packets}"
        case _:
            yield f"its result is no answer of the provider: {result!r}"


def _of(request: Request) -> _Attempt:
    return _Attempt(request.call_id, request.generation, request.attempt)


def _longest_wait(evidence: Evidence) -> float | None:
    acks = evidence.history.acks
    places = [(heal, bisect_left(acks, heal)) for heal in evidence.heals]
    if places[-1][1] == len(acks):
        return None
    return max(acks[place] - heal for heal, place in places)


def _tails(evidence: Evidence) -> list[deque[Op]]:
    """Return the last operations of each sender that has sent enough of them after the last fault."""
    tails: defaultdict[int, deque[Op]] = defaultdict(lambda: deque(maxlen=_TAIL))
    for op in evidence.history.ops:
        if op.kind in _PROGRESS_KINDS and op.sent_at > evidence.healed_at:
            tails[op.sender].append(op)
    return [tail for tail in tails.values() if len(tail) == _TAIL]


def _is_settled(op: Op) -> bool:
    return op.outcome is Outcome.OK or op.slug in _FINAL_SLUGS


def _judge_answer(op: Op, slugs: Collection[str]) -> Iterator[str]:
    if op.status == 500:
        yield "status 500"
    if op.outcome is Outcome.REFUSED:
        if op.slug is None:
            yield "no problem details"
        elif op.slug not in slugs and op.slug not in _SLUGS_OF_KIND.get(op.kind, ()):
            yield "not an expected problem"
    if op.status in (429, 503) and op.kind != "frame" and not op.has_retry_after:
        yield "no Retry-After"


def _judge_stop(stop: Stop, deadline: float) -> Iterator[str]:
    if stop.exit_code != 0:
        yield f"exit code {stop.exit_code}"
    if stop.seconds > deadline:
        yield f"stopped after {stop.seconds:.3f} s, allowed {deadline:g} s"
    others = Counter(code for code in stop.close_codes if code != _SERVICE_RESTART)
    yield from (f"{times} supervisors closed with {code}" for code, times in others.items())
