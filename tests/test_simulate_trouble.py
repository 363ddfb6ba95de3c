"""What goes wrong on the way is the same each time, and all of it is accounted for."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from callactors.simulate.actions import Action, Close, Cut, Lose, Send
from callactors.simulate.ledger import Ledger, find_gaps
from callactors.simulate.trouble import Trouble, disturb

ALL = Trouble(0.1, 0.1, 0.1, 0.5)
LENGTH = 10.0


def script(messages: int = 500) -> list[Action]:
    """One that is not numbered, and then numbered ones."""
    step = LENGTH / messages
    sends = [Send(number * step, f"{number}", number) for number in range(1, messages + 1)]
    return [Send(0.0, "connected"), *sends, Close(LENGTH)]


def after(trouble: Trouble, seed: int = 1, messages: int = 500) -> list[Action]:
    return list(disturb(script(messages), trouble, Random(seed), LENGTH))


def numbers(actions: list[Action]) -> list[int]:
    return [a.sequence for a in actions if isinstance(a, Send) and a.sequence is not None]


def ledger_of(actions: list[Action]) -> Ledger:
    ledger = Ledger("c", "s")
    for action in actions:
        ledger.note(action)
    return ledger


def answer(**other: Any) -> dict[str, Any]:
    told = {
        "state": "COMPLETED",
        "packets": 3,
        "end_reason": "stream_stopped",
        "streams": {"s": {"missing": [], "missing_count": 0}},
    }
    return told | other


def test_no_trouble_changes_nothing() -> None:
    assert after(Trouble()) == script()


def test_one_seed_makes_the_same_trouble_and_another_does_not() -> None:
    assert after(ALL, seed=7) == after(ALL, seed=7)
    assert after(ALL, seed=7) != after(ALL, seed=8)


def test_lost_messages_are_named_and_never_sent() -> None:
    actions = after(Trouble(loss=0.2))
    lost = [action.sequence for action in actions if isinstance(action, Lose)]
    assert 50 < len(lost) < 150
    assert sorted(numbers(actions) + lost) == list(range(1, 501))
    assert ledger_of(actions).lost == len(lost)


def test_the_first_and_the_last_message_are_never_touched() -> None:
    assert numbers(after(Trouble(loss=1.0))) == [1, 500]
    assert numbers(after(Trouble(duplicate=1.0), messages=4)) == [1, 2, 2, 3, 3, 4]


def test_a_reordered_message_changes_its_place_with_the_next() -> None:
    assert numbers(after(Trouble(reorder=1.0), messages=6)) == [1, 3, 2, 5, 4, 6]
    assert numbers(after(Trouble(reorder=1.0), messages=5)) == [1, 3, 2, 4, 5]


@pytest.mark.parametrize("seed", range(20))
def test_times_never_go_back_and_nothing_is_lost_or_doubled_unseen(seed: int) -> None:
    actions = after(Trouble(0.1, 0.1, 0.1), seed)
    times = [action.at for action in actions]
    assert times == sorted(times)
    lost = [action.sequence for action in actions if isinstance(action, Lose)]
    assert set(numbers(actions)) | set(lost) == set(range(1, 501))
    assert not set(numbers(actions)) & set(lost)
    assert max(Counter(numbers(actions)).values()) == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_call_has_its_start_and_not_its_end(seed: int) -> None:
    actions = after(Trouble(loss=0.1, reorder=0.1, drop=1.0), seed)
    *sent, last = actions
    assert isinstance(last, Cut)
    assert 1 in numbers(sent)
    assert 500 not in numbers(sent)
    ledger = ledger_of(actions)
    assert ledger.is_cut
    assert ledger.lost == sum(last - first + 1 for first, last in ledger.gaps)


def test_calls_are_cut_as_often_as_asked_for() -> None:
    cut = sum(isinstance(after(Trouble(drop=0.5), seed, 10)[-1], Cut) for seed in range(200))
    assert 70 < cut < 130


def test_gaps_are_what_lacks_from_1_to_the_highest() -> None:
    assert find_gaps({3, 4, 7}) == [(1, 2), (5, 6)]
    assert find_gaps(set()) == []
    assert find_gaps({1, 2}) == []


def test_a_message_that_came_twice_is_one_packet() -> None:
    ledger = ledger_of([Send(0, "a", 1), Send(0, "a", 1), Send(0, "b", 2), Send(0, "c")])
    assert (ledger.packets, ledger.messages) == (2, 4)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        (answer(), []),
        (answer(packets=4), ["packets"]),
        (answer(end_reason="api"), ["end_reason"]),
        (answer(state="IN_PROGRESS"), ["state"]),
        (answer(streams={"s": {"missing": [[2, 2]], "missing_count": 1}}), ["missing"]),
        (answer(streams={"other": {"missing": [], "missing_count": 0}}), ["stream"]),
        (answer(streams={}), ["streams", "stream"]),
    ],
)
def test_every_difference_is_told(told: dict[str, Any], what: list[str]) -> None:
    ledger = ledger_of([Send(0, "a", 1), Send(0, "a", 2), Send(0, "b", 3), Close(0)])
    assert [difference.what for difference in ledger.compare(told)] == what


def test_a_cut_call_should_have_dropped() -> None:
    ledger = ledger_of([Send(0, "a", 1), Send(0, "a", 3), Cut(0)])
    (reason,) = ledger.compare(answer(packets=2, streams={"s": {"missing": [[2, 2]], "missing_count": 1}}))
    assert str(reason) == "c: end_reason should be stream_dropped, but is stream_stopped"
