"""The checkers themselves: a good round is clean, and each kind of fault turns its own checker red."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import pytest

from tests.acceptance.floor import FINDINGS
from tests.acceptance.history import Content, Key, Stored, StoredCall, StoredEvent, StoredPacket
from tests.faults.checkers import CHECKERS, check, count
from tests.faults.evidence import (
    Claim,
    Evidence,
    Expected,
    FaultHistory,
    Op,
    Outcome,
    Request,
    Resources,
    Stop,
)

Alter = Callable[[Evidence], Evidence]

FAULTS_AT, HEALED_AT = 10.0, 20.0
FULL: Final = Content("x", 1.0)
OTHER: Final = Content("y", 1.0)
LATER: Final = Content("x", 2.0)
KEYS: Final = [
    Key("once", "", 1),
    Key("once", "", 2),
    Key("once", "b", 1),
    Key("twice", "", 1),
    Key("live", "", 1),
]
UNKNOWN_KEY: Final = Key("live", "", 2)
BEGUN: Final = ("IN_PROGRESS", "COMPLETED", "PROCESSING_AI")
GIVEN_BACK: Final = ("started 1", "failed 1", "started 2", "given back 2", "started 2", "succeeded 2")
FAILING: Final = ("started 1", "failed 1", "started 2", "failed 2", "FAILED")
RETRIED: Final = ("PROCESSING_AI", "started 1", "failed 1", "started 2", "succeeded 2")
LOGS: Final = {
    "once": (*BEGUN, *GIVEN_BACK, "ARCHIVED"),
    "twice": (*BEGUN, *FAILING, *RETRIED, "ARCHIVED"),
    "empty": (*BEGUN, "ARCHIVED"),
    "live": ("IN_PROGRESS",),
}
CALLS: Final = [
    StoredCall("once", "ARCHIVED", 10, 1, 2, 3, {"token": "o2", "packets": 3}),
    StoredCall("twice", "ARCHIVED", 14, 2, 2, 1, {"token": "t2", "packets": 1}),
    StoredCall("empty", "ARCHIVED", 4, 1, 0, 0),
    StoredCall("live", "IN_PROGRESS", 1, 1, 0, 1),
]
REQUESTS: Final = [
    Request("once:1", "once", 1, 1, None),
    Request("once:1", "once", 1, 2, "o1"),
    Request("once:1", "once", 1, 2, "o2"),
    Request("twice:1", "twice", 1, 1, None),
    Request("twice:1", "twice", 1, 2, "t1"),
    Request("twice:2", "twice", 2, 1, None),
    Request("twice:2", "twice", 2, 2, "t2"),
]
CLAIMS: Final = [
    Claim("once", 1, 2),
    Claim("twice", 5, 3, "a"),
    Claim("twice", 5, 4, "a"),
    Claim("twice", 5, 4),  # given up
    Claim("once", 1, 2),
    Claim("twice", 6, 4, "b"),
    Claim("once", 2, 10),
]
KINDS: Final = ("packet", "frame", "body", "complete")
REFUSED: Final = {"outcome": Outcome.REFUSED, "has_retry_after": True}
TRACEBACK: Final = """\
2026-11-25 03:00:00,000 ERROR   callactors.actors.actor: the actor failed
Traceback (most recent call last):
ValueError: no
"""
NOT_HTTP: Final = """\
2026-11-25 03:00:01,000 ERROR   aiohttp.server: Error handling request
Traceback (most recent call last):
aiohttp.http_exceptions.BadHttpMessage: no
"""


def log(call_id: str, steps: Sequence[str]) -> list[StoredEvent]:
    """Return the events of *steps*: a state is a transition, a phase with a number an attempt."""
    events: list[StoredEvent] = []
    state, attempt = None, 0
    for version, step in enumerate(steps, 1):
        if step[-1].isdigit():
            phase, attempt = step[:-2], int(step[-1])
            told = {"phase": phase}
            events.append(StoredEvent(call_id, version, "attempt", state, str(state), attempt, told))
        else:
            events.append(StoredEvent(call_id, version, "transition", state, step, attempt, {}))
            state = step
    return events


def good() -> Evidence:
    """Return a clean round, with everything that a fault may bring about."""
    events = [event for call_id, steps in LOGS.items() for event in log(call_id, steps)]
    return Evidence(
        history=good_history(),
        stored=Stored([StoredPacket(key, FULL) for key in (*KEYS, UNKNOWN_KEY)], CALLS, events),
        claims=CLAIMS,
        provider=REQUESTS,
        supervisors=Counter({"events": 900, "holes": 0, "gaps": 3}),
        faults_at=FAULTS_AT,
        heals=[HEALED_AT],
        before=Resources(tasks=10, files=20, connections=5, resident=40),
        after=Resources(tasks=10, files=20, connections=13, resident=0),
        peak_memory=Expected().peak_memory,
        server_log=NOT_HTTP,
        stops=[Stop(0, 12.0, [1012, 1012]), Stop(0, 0.1, [])],
        expected=Expected(progress=0.2),
    )


def good_history() -> FaultHistory:
    history = FaultHistory()
    for key, at in zip(KEYS, (1.0, 10.0, 15.0, 22.0, 23.0), strict=True):
        history.begin(0, "packet", key.call_id, [(key, FULL)], at).outcome = Outcome.OK
        history.acknowledge([(key, FULL)], at)
    history.begin(0, "packet", "live", [(UNKNOWN_KEY, FULL)], 16.0)
    history.begin(0, "conflict", "once", [(KEYS[0], OTHER)], 17.0)
    history.completes_sent |= {"once", "twice", "empty"}
    history.completed |= {"once", "twice", "empty"}
    history.ops += [
        op(kind="conflict", outcome=Outcome.REFUSED, status=409, slug="sequence-conflict"),
        op(kind="complete", outcome=Outcome.REFUSED, status=404, slug="unknown-call"),
        op(kind="frame", outcome=Outcome.REFUSED, status=503, slug="storage-unavailable"),
        op(kind="body", status=429, slug="call-backpressure", **REFUSED),
        op(sent_at=12.0, ended_at=20.0, status=503, slug="overloaded", **REFUSED),
    ]
    history.ops += tail(6, sender=1)
    return history


def op(**facts: Any) -> Op:
    """Return an operation during the faults that went well, but for *facts*."""
    usual = {"number": 99, "sender": 0, "kind": "packet", "call_id": "once", "keys": [], "sent_at": 15.0}
    return Op(**{**usual, "ended_at": 15.1, "outcome": Outcome.OK, **facts})


def tail(length: int, sender: int = 2) -> list[Op]:
    """Return operations after the faults that went well, one a second."""
    return [op(sender=sender, sent_at=21.0 + n, ended_at=21.1 + n) for n in range(length)]


def failed(**facts: Any) -> Op:
    """Return an operation after the faults, of the sender of `tail`, that got no answer, but for *facts*."""
    return op(**{"sender": 2, "sent_at": 30.0, "ended_at": None, "outcome": Outcome.UNKNOWN, **facts})


def with_ops(*ops: Op) -> Alter:
    def alter(evidence: Evidence) -> Evidence:
        evidence.history.ops.extend(ops)
        return evidence

    return alter


def refused(**facts: Any) -> Alter:
    usual = {"outcome": Outcome.REFUSED, "status": 503, "slug": "fenced", "has_retry_after": True}
    return with_ops(op(**{**usual, **facts}))


def with_stored(change: Callable[[Stored], Stored]) -> Alter:
    return lambda evidence: replace(evidence, stored=change(evidence.stored))


def with_log(call_id: str, *steps: str, **row: Any) -> Alter:
    """Let the log of a call be of *steps*, and its row what they replay to, but for *row*."""

    def change(stored: Stored) -> Stored:
        logs = {name: list(part) for name, part in groupby(stored.events, attrgetter("call_id"))}
        logs[call_id] = log(call_id, steps)
        last = logs[call_id][-1]
        facts = {"version": last.version, "state": last.to_state, **row}
        calls = [c._replace(**facts) if c.call_id == call_id else c for c in stored.calls]
        return stored._replace(events=[e for part in logs.values() for e in part], calls=calls)

    return with_stored(change)


def with_row(call_id: str, **row: Any) -> Alter:
    def change(stored: Stored) -> Stored:
        calls = [c._replace(**row) if c.call_id == call_id else c for c in stored.calls]
        return stored._replace(calls=calls)

    return with_stored(change)


def with_packets(change: Callable[[list[StoredPacket]], list[StoredPacket]]) -> Alter:
    """Change the stored packets, and let every row and result count them."""

    def alter(stored: Stored) -> Stored:
        packets = change(list(stored.packets))
        counts = Counter(packet.key.call_id for packet in packets)
        calls = [
            call._replace(
                packets=counts[call.call_id],
                result=call.result and {**call.result, "packets": counts[call.call_id]},
            )
            for call in stored.calls
        ]
        return stored._replace(packets=packets, calls=calls)

    return with_stored(alter)


def with_result(call_id: str, result: Any) -> Alter:
    return with_row(call_id, result=result)


def with_token(call_id: str, token: str) -> Alter:
    packets = {call.call_id: call.packets for call in CALLS}
    return with_result(call_id, {"token": token, "packets": packets[call_id]})


def with_requests(*requests: Request) -> Alter:
    return lambda evidence: replace(evidence, provider=[*evidence.provider, *requests])


def with_after(**facts: int) -> Alter:
    def alter(evidence: Evidence) -> Evidence:
        assert evidence.after is not None
        return replace(evidence, after=evidence.after._replace(**facts))

    return alter


def with_stop(*stop: Any) -> Alter:
    return lambda evidence: replace(evidence, stops=[*evidence.stops, Stop(*stop)])


def with_heals(*heals: float) -> Alter:
    return lambda evidence: replace(evidence, heals=heals)


def with_acks(*acks: float) -> Alter:
    """Let packets be acknowledged at these times only, and expect no progress under the faults."""

    def alter(evidence: Evidence) -> Evidence:
        evidence.history.acks[:] = acks
        return replace(evidence, expected=replace(evidence.expected, progress=None))

    return alter


def expecting(**facts: Any) -> Alter:
    return lambda evidence: replace(evidence, expected=replace(evidence.expected, **facts))


def with_request(place: int, **facts: Any) -> Alter:
    def alter(evidence: Evidence) -> Evidence:
        requests = list(evidence.provider)
        requests[place] = requests[place]._replace(**facts)
        return replace(evidence, provider=requests)

    return alter


def with_complete(call_id: str, *, is_acknowledged: bool = True) -> Alter:
    def alter(evidence: Evidence) -> Evidence:
        evidence.history.completes_sent.add(call_id)
        if is_acknowledged:
            evidence.history.completed.add(call_id)
        return evidence

    return alter


def with_all(*alters: Alter) -> Alter:
    return lambda evidence: reduce(lambda altered, alter: alter(altered), alters, evidence)


def allowing(slug: str) -> Alter:
    return expecting(slugs=Expected().slugs | {slug})


def with_server_log(text: str) -> Alter:
    return lambda evidence: replace(evidence, server_log=text)


def assert_red(alter: Alter, name: str, text: str) -> None:
    """Assert that this checker and no other finds something, and says *text*."""
    found = check(alter(good()))
    assert list(found) == [name], found
    assert any(text in line for line in found[name]), found


def skip_a_version(stored: Stored) -> Stored:
    *events, last = (event for event in stored.events if event.call_id == "empty")
    others = [event for event in stored.events if event.call_id != "empty"]
    calls = [call._replace(version=5) if call.call_id == "empty" else call for call in stored.calls]
    return stored._replace(events=[*others, *events, last._replace(version=5)], calls=calls)


def test_good_round_is_clean() -> None:
    assert check(good()) == {}


def test_there_is_a_checker_for_each_promise() -> None:
    assert list(CHECKERS) == [f"C{number}" for number in range(1, 16)]


@pytest.mark.parametrize(
    "alter",
    [
        with_packets(lambda packets: packets[:-1]),
        with_log("once", *BEGUN, *GIVEN_BACK[:-1], "failed 2", "FAILED", result=None),
        with_complete("gone", is_acknowledged=False),
        with_complete("live", is_acknowledged=False),
    ],
)
def test_what_may_be_stored_is_clean(alter: Alter) -> None:
    assert check(alter(good())) == {}


@pytest.mark.parametrize(
    ("name", "text", "alter"),
    [
        ("C1", "lost, prefix: once//1", with_packets(lambda packets: packets[1:])),
        ("C1", "lost, prefix: once//1", with_packets(lambda p: [StoredPacket(KEYS[0], OTHER), *p[1:]])),
        ("C1", "stored more than once: once//1", with_packets(lambda packets: [*packets, packets[0]])),
        ("C2", "never sent: live//9", with_packets(lambda p: [*p, StoredPacket(Key("live", "", 9), FULL)])),
        ("C2", "never sent: once//1", with_packets(lambda p: [StoredPacket(KEYS[0], LATER), *p[1:]])),
        ("C2", "taken: op 99, conflict", with_ops(op(kind="conflict"))),
        ("C3", "holes: empty", with_stored(skip_a_version)),
        ("C3", "bad_steps: empty", with_log("empty", "IN_PROGRESS", "COMPLETED", "ARCHIVED")),
        ("C4", "not_ended: empty", with_log("empty", "IN_PROGRESS", "COMPLETED")),
        ("C4", "not_ended: empty", with_row("empty", generation=2)),
        ("C4", "not_ended: live", with_complete("live")),
        ("C4", "ended_unasked: live", with_log("live", *BEGUN, "FAILED", packets=2)),
        ("C4", "completed, but not stored: gone", with_complete("gone")),
        ("C6", "unlike_log: once", with_row("once", version=9)),
        ("C6", "unlike_log: empty", with_row("empty", state="FAILED")),
        ("C6", "bad_attempts: empty", with_log("empty", *BEGUN, "started 2", "failed 2", "FAILED")),
        ("C6", "miscounted: once", with_row("once", packets=4)),
    ],
)
def test_fault_of_the_data_turns_its_checker_red(name: str, text: str, alter: Alter) -> None:
    assert_red(alter, name, text)


@pytest.mark.parametrize(
    ("text", "alter"),
    [
        ("key 'once:2' for attempt 1 of once, generation 1", with_request(0, idempotency_key="once:2")),
        ("not started: attempt 3 of twice", with_requests(Request("twice:2", "twice", 2, 3, None))),
        ("not started: attempt 1 of once", with_requests(Request("once:2", "once", 2, 1, None))),
        ("not started: attempt 1 of gone", with_requests(Request("gone:1", "gone", 1, 1, None))),
        ("asked 2 times: attempt 1 of once", with_requests(REQUESTS[0])),
        ("asked 3 times: attempt 2 of once", with_requests(REQUESTS[2])),
        ("once: archived without a result, with 3 packets", with_result("once", None)),
        ("once: its result is no answer", with_result("once", {"token": "o2"})),
        ("once: its result is no answer", with_result("once", {"token": "o2", "packets": 3, "more": 1})),
        ("once: its result is no answer", with_result("once", {"token": ["o2"], "packets": 3})),
        ("once: its result is no answer", with_result("once", "o2")),
        ("once: token 'o0' was not given", with_all(with_request(0, token="o0"), with_token("once", "o0"))),
        ("twice: token 't1' was not given", with_token("twice", "t1")),
        ("once: token 't1' was not given", with_token("once", "t1")),
        ("empty: token 'o2' was not given", with_result("empty", {"token": "o2", "packets": 0})),
        ("once: its result is of 2 packets", with_result("once", {"token": "o2", "packets": 2})),
    ],
)
def test_wrong_request_or_result_of_the_ai_step_is_red(text: str, alter: Alter) -> None:
    assert_red(alter, "C5", text)


@pytest.mark.parametrize("token", ["o1", "o2"])
def test_result_may_be_of_either_run_of_an_attempt_that_was_given_back(token: str) -> None:
    assert check(with_token("once", token)(good())) == {}


@pytest.mark.parametrize("finding", FINDINGS)
def test_misled_supervisor_is_red(finding: str) -> None:
    assert_red(lambda evidence: replace(evidence, supervisors=Counter({finding: 2})), "C7", f"{finding}: 2")


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("the epoch of once falls from 2 to 1", Claim("once", 1, 10)),
        ("the epoch of twice falls from 6 to 4", Claim("twice", 4, 4)),
        ("epoch 6 of twice has two owners: b, c", Claim("twice", 6, 4, "c")),
        ("the version of once falls from 10 to 9", Claim("once", 3, 9)),
    ],
)
def test_stale_owner_that_wrote_is_red(text: str, claim: Claim) -> None:
    assert_red(lambda evidence: replace(evidence, claims=[*CLAIMS, claim]), "C8", text)


@pytest.mark.parametrize(
    ("text", "alter"),
    [
        ("first ack after a fault: none", with_acks(1.0, 19.999)),
        ("first ack after a fault: 2.001 s", with_acks(19.999, 22.001)),
        ("first ack after a fault: 3.000 s", with_all(with_acks(15.0, 21.0), with_heals(12.0, 20.0))),
        *[(f"op 99, {kind}", with_ops(*tail(4), failed(kind=kind))) for kind in KINDS],
        ("op 99, packet of once by sender 2: unknown", with_ops(failed(), *tail(4))),
        ("op 99, packet of once by sender 2: unknown", with_ops(*tail(6), failed())),
        ("503 overloaded", with_ops(*tail(4), failed(status=503, slug="overloaded", **REFUSED))),
    ],
)
def test_slow_recovery_is_red(text: str, alter: Alter) -> None:
    assert_red(alter, "C9", text)


@pytest.mark.parametrize(
    "alter",
    [
        with_acks(20.0),
        with_all(with_acks(14.0, 20.0), with_heals(12.0, 20.0)),
        with_all(with_acks(1.0), expecting(first_ack=None)),
        with_ops(failed(), *tail(5)),
        with_ops(failed(sent_at=HEALED_AT), *tail(3), failed()),
        with_ops(*tail(3), failed(), failed(kind="conflict"), failed(kind="read")),
        with_ops(*tail(4), failed(status=409, slug="call-closed", **REFUSED)),
        with_ops(*tail(4), failed(status=409, slug="sequence-window", **REFUSED)),
    ],
)
def test_recovery_in_time_is_clean(alter: Alter) -> None:
    assert check(alter(good())) == {}


@pytest.mark.parametrize(
    ("text", "alter"),
    [
        ("not an expected problem", refused(slug="actor-restarted")),
        ("not an expected problem", refused(status=409, slug="sequence-conflict")),
        ("not an expected problem", refused(status=404, slug="unknown-call")),
        ("not an expected problem", refused(status=404, slug="unknown-call", kind="conflict")),
        ("not an expected problem", with_all(refused(slug="made-up"), allowing("made-up"))),
        ("no problem details: op 99, packet of once by sender 0: 502 None", refused(status=502, slug=None)),
        ("no problem details", refused(status=None, slug=None)),
        ("status 500", refused(status=500)),
        ("status 500", refused(status=500, outcome=Outcome.UNKNOWN, slug=None)),
        ("no Retry-After", refused(has_retry_after=False)),
        ("no Retry-After", refused(status=429, slug="call-backpressure", has_retry_after=False)),
        ("log: 2026-11-25 03:00:00,000 ERROR", with_server_log(NOT_HTTP + TRACEBACK)),
        (" ... ValueError: no", with_server_log(TRACEBACK)),
    ],
)
def test_bad_refusal_or_log_is_red(text: str, alter: Alter) -> None:
    assert_red(alter, "C10", text)


@pytest.mark.parametrize(
    "alter",
    [
        with_all(refused(slug="actor-restarted"), allowing("actor-restarted")),
        refused(status=409, slug="call-closed", has_retry_after=False),
        refused(status=409, slug="sequence-window", has_retry_after=False),
        refused(status=429, slug="call-backpressure", kind="frame", has_retry_after=False),
    ],
)
def test_expected_refusal_is_clean(alter: Alter) -> None:
    assert check(alter(good())) == {}


@pytest.mark.parametrize(
    ("name", "text", "alter"),
    [
        ("C11", "tasks: 11, before 10", with_after(tasks=11)),
        ("C11", "files: 21, before 20", with_after(files=21)),
        ("C11", "connections: 14, before 5", with_after(connections=14)),
        ("C11", "resident calls: 1", with_after(resident=1)),
        ("C12", "peak memory: 419,430,401 bytes", lambda e: replace(e, peak_memory=e.peak_memory + 1)),
        ("C13", "2 acks in 10.0 s of faults, expected 0.21", expecting(progress=0.21)),
        ("C14", "exit code -9", with_stop(-9, 1.0, [1012])),
        ("C14", "stopped after 12.001 s", with_stop(0, 12.001, [])),
        ("C14", "2 supervisors closed with 1000", with_stop(0, 1.0, [1012, 1000, 1000])),
        ("C14", "1 supervisors closed with None", with_stop(0, 1.0, [None])),
        ("C15", "8.001 s: op 99", with_ops(op(ended_at=23.001))),
    ],
)
def test_cost_above_what_is_expected_is_red(name: str, text: str, alter: Alter) -> None:
    assert_red(alter, name, text)


@pytest.mark.parametrize(
    "alter",
    [
        lambda evidence: replace(with_after(tasks=99, resident=9)(evidence), before=None),
        lambda evidence: replace(evidence, after=None),
        with_acks(21.0),
        with_ops(op(ended_at=None)),
        with_all(with_ops(op(ended_at=99.0)), expecting(longest_op=None)),
    ],
)
def test_what_is_not_judged_is_clean(alter: Alter) -> None:
    assert check(alter(good())) == {}


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([0, 1, 3], ["prefix", "prefix", "middle"]),
        ([1, 3, 4], ["middle", "postfix", "postfix"]),
        ([0, 2, 4], ["prefix", "middle", "postfix"]),
        ([0, 1, 2, 3, 4], ["all"] * 5),
    ],
)
def test_lost_packets_are_told_by_their_place_among_the_acks(places: list[int], words: list[str]) -> None:
    lost = {KEYS[place] for place in places}
    found = check(with_packets(lambda packets: [p for p in packets if p.key not in lost])(good()))
    assert [line.split(": ")[0] for line in found["C1"]] == [f"lost, {word}" for word in words]


def test_lost_and_doubled_are_told_together() -> None:
    found = check(with_packets(lambda packets: [*packets[1:], packets[1]])(good()))
    assert found == {"C1": ["lost, prefix: once//1", "stored more than once: once//2"]}


def test_acks_at_both_ends_of_the_faults_are_progress() -> None:
    alter = with_all(with_acks(FAULTS_AT, HEALED_AT), expecting(progress=0.2))
    assert check(alter(good())) == {}


def test_archived_call_without_an_attempt_that_succeeded_is_red() -> None:
    failing = with_log("once", *BEGUN, *GIVEN_BACK[:-1], "failed 2", "ARCHIVED")
    assert list(check(failing(good()))) == ["C5", "C6"]


def test_log_record_of_one_line_is_told_once() -> None:
    found = check(with_server_log("Unclosed connection\n")(good()))
    assert found == {"C10": ["log: Unclosed connection"]}


def test_finding_is_a_line_and_none_is_left_out() -> None:
    found = check(with_all(*[with_result(i, "x\n" * 10_000) for i in ("once", "twice")])(good()))
    assert [len(line) for line in found["C5"]] == [110, 110]
    assert "\n" not in "".join(found["C5"])


def test_figures_of_a_round_are_counted() -> None:
    evidence = good()
    operations = len(evidence.history.ops)
    assert count(evidence) == (operations, 5, 2, 0, 0, 0, 2.0)
    strange = StoredPacket(Key("live", "", 9), FULL)
    worse = with_packets(lambda packets: [packets[1], *packets[1:], strange, strange])(evidence)
    assert count(worse) == (operations, 5, 2, 1, 2, 1, 2.0)
    assert count(with_acks(19.0)(evidence)).first_ack is None
