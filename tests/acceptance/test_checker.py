"""The checker itself: a good history is clean, and each kind of fault turns its own check red."""

from collections.abc import Callable

import pytest

from tests.acceptance.checker import Report, check
from tests.acceptance.history import Content, History, Key, Stored, StoredCall, StoredEvent, StoredPacket

Alter = Callable[[History, Stored], Stored]

STEPS = [
    ("transition", None, "IN_PROGRESS", 0, {}),
    ("transition", "IN_PROGRESS", "COMPLETED", 0, {}),
    ("transition", "COMPLETED", "PROCESSING_AI", 1, {}),
    ("attempt", "PROCESSING_AI", "PROCESSING_AI", 1, {"phase": "started"}),
    ("attempt", "PROCESSING_AI", "PROCESSING_AI", 1, {"phase": "failed"}),
    ("attempt", "PROCESSING_AI", "PROCESSING_AI", 2, {"phase": "started"}),
    ("attempt", "PROCESSING_AI", "PROCESSING_AI", 2, {"phase": "given back"}),
    ("attempt", "PROCESSING_AI", "PROCESSING_AI", 2, {"phase": "started"}),
    ("attempt", "PROCESSING_AI", "PROCESSING_AI", 2, {"phase": "succeeded"}),
    ("transition", "PROCESSING_AI", "ARCHIVED", 2, {}),
]
KEYS = [Key("c", "", 1), Key("c", "", 2), Key("c", "b", 1)]


def good() -> tuple[History, Stored]:
    history = History()
    for key in KEYS:
        history.send(key, Content("x", 1.0))
        history.ack(key, Content("x", 1.0))
    history.completes_sent.add("c")
    history.completed.add("c")
    events = [StoredEvent("c", version, *step) for version, step in enumerate(STEPS, 1)]
    call = StoredCall("c", "ARCHIVED", len(events), 1, 2, len(KEYS))
    return history, Stored([StoredPacket(key, Content("x", 1.0)) for key in KEYS], [call], events)


def altered(alter: Alter) -> Report:
    history, stored = good()
    return check(history, alter(history, stored))


def events(stored: Stored, *places: int) -> Stored:
    """Return *stored* with only the events at *places*, numbered anew."""
    chosen = [stored.events[i]._replace(version=n) for n, i in enumerate(places, 1)]
    call = stored.calls[0]._replace(version=len(chosen), state=chosen[-1].to_state)
    return stored._replace(events=chosen, calls=[call])


def attempt(stored: Stored, place: int, number: int) -> Stored:
    changed = list(stored.events)
    changed[place] = changed[place]._replace(attempt=number)
    return stored._replace(events=changed)


def lose(_: History, stored: Stored) -> Stored:
    return stored._replace(packets=stored.packets[1:], calls=[stored.calls[0]._replace(packets=2)])


def store_other_data(history: History, stored: Stored) -> Stored:
    history.send(KEYS[0], Content("y", 1.0))
    return stored._replace(packets=[StoredPacket(KEYS[0], Content("y", 1.0)), *stored.packets[1:]])


def double(_: History, stored: Stored) -> Stored:
    return stored._replace(
        packets=[*stored.packets, stored.packets[0]], calls=[stored.calls[0]._replace(packets=4)]
    )


def invent(_: History, stored: Stored) -> Stored:
    extra = StoredPacket(Key("c", "", 99), Content("x", 1.0))
    return stored._replace(packets=[*stored.packets, extra], calls=[stored.calls[0]._replace(packets=4)])


def alter_timestamp(_: History, stored: Stored) -> Stored:
    return stored._replace(packets=[StoredPacket(KEYS[0], Content("x", 2.0)), *stored.packets[1:]])


def miscount(_: History, stored: Stored) -> Stored:
    return stored._replace(calls=[stored.calls[0]._replace(packets=4)])


def end_twice(_: History, stored: Stored) -> Stored:
    return events(stored, *range(10), 9)


def complete_unasked(history: History, stored: Stored) -> Stored:
    history.completes_sent.clear()
    return stored


def skip_a_version(_: History, stored: Stored) -> Stored:
    last = stored.events[-1]._replace(version=11)
    return stored._replace(events=[*stored.events[:-1], last], calls=[stored.calls[0]._replace(version=11)])


def test_good_history_is_clean() -> None:
    report = check(*good(), told_packets={"c": 3})
    assert not report.findings
    assert (report.acked, report.stored, report.archived, report.failed) == (3, 3, 1, 0)


@pytest.mark.parametrize(
    ("finding", "alter"),
    [
        ("lost", lose),
        ("lost", store_other_data),
        ("doubled", double),
        ("invented", invent),
        ("invented", alter_timestamp),
        ("miscounted", miscount),
        ("not_ended", end_twice),
        ("not_ended", lambda _, stored: events(stored, 0)),
        ("not_ended", lambda _, stored: events(stored, 0, 1)),
        ("not_ended", lambda _, stored: events(stored, 0, 1, 2, 3, 4)),
        ("ended_unasked", complete_unasked),
        ("holes", skip_a_version),
        ("holes", lambda _, stored: stored._replace(events=stored.events[1:])),
        ("bad_steps", lambda _, stored: events(stored, 0, 2, 3, 8, 9)),
        ("bad_steps", lambda _, stored: events(stored, 0, 1, 9)),
        ("bad_steps", lambda _, stored: events(stored, 1, 2, 3, 8, 9)),
        ("bad_attempts", lambda _, stored: attempt(stored, 5, 1)),
        ("bad_attempts", lambda _, stored: attempt(stored, 8, 3)),
        ("bad_attempts", lambda _, stored: events(stored, 0, 1, 2, 3, 5, 8, 9)),
        ("bad_attempts", lambda _, stored: events(stored, 0, 1, 2, 3, 4, 9)),
        ("bad_attempts", lambda _, stored: events(stored, 0, 1, 2, 3, 9)),
        ("unlike_log", lambda _, s: s._replace(calls=[s.calls[0]._replace(version=9)])),
        ("unlike_log", lambda _, s: s._replace(calls=[s.calls[0]._replace(state="FAILED")])),
        ("unlike_log", lambda _, stored: stored._replace(events=[])),
    ],
)
def test_fault_turns_its_check_red(finding: str, alter: Alter) -> None:
    report = altered(alter)
    assert finding in report.findings
    assert finding in report.table()


def test_fifth_attempt_is_red() -> None:
    history, stored = good()
    pairs = [(3, n) if i % 2 == 0 else (4, n) for n in range(1, 6) for i in range(2)]
    log = [stored.events[i] for i in (0, 1, 2)]
    log += [stored.events[i]._replace(attempt=number) for i, number in pairs]
    log.append(stored.events[9]._replace(to_state="FAILED", attempt=5))
    numbered = [event._replace(version=n) for n, event in enumerate(log, 1)]
    call = stored.calls[0]._replace(state="FAILED", version=len(numbered), attempt=5)
    report = check(history, stored._replace(events=numbered, calls=[call]))
    assert list(report.findings) == ["bad_attempts"]


def test_next_generation_ends_once_more_and_counts_attempts_from_one() -> None:
    history, stored = good()
    first = [stored.events[i] for i in (0, 1, 2, 3, 4)]
    second = [stored.events[i] for i in (3, 4)]
    failed = stored.events[9]._replace(to_state="FAILED")
    again = stored.events[2]._replace(from_state="FAILED")
    log = [e._replace(version=n) for n, e in enumerate([*first, failed, again, *second, failed], 1)]
    call = stored.calls[0]._replace(state="FAILED", version=len(log), generation=2)
    assert not check(history, stored._replace(events=log, calls=[call])).findings
    once = call._replace(generation=1)
    assert "not_ended" in check(history, stored._replace(events=log, calls=[once])).findings


def test_packet_without_an_ack_may_be_stored_or_not() -> None:
    history, stored = good()
    history.send(Key("c", "", 3), Content("x", 1.0))
    assert not check(history, stored).findings
    del history.acked[KEYS[0]]
    assert not check(history, stored).findings


def test_count_that_the_server_tells_is_compared_while_the_call_lives() -> None:
    history, stored = good()
    history.completed.clear()
    history.completes_sent.clear()
    live = events(stored, 0)
    assert not check(history, live, {"c": 3}).findings
    assert list(check(history, live, {"c": 2}).findings) == ["miscounted"]
