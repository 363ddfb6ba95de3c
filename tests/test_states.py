"""The table of states, and that the machine all calls share holds none of them."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callactors.errors import BadTransition
from callactors.states import CallState, Trigger, advance

TABLE = {
    (CallState.IN_PROGRESS, Trigger.COMPLETE): CallState.COMPLETED,
    (CallState.COMPLETED, Trigger.PROCESS): CallState.PROCESSING_AI,
    (CallState.PROCESSING_AI, Trigger.ARCHIVE): CallState.ARCHIVED,
    (CallState.PROCESSING_AI, Trigger.FAIL): CallState.FAILED,
    (CallState.FAILED, Trigger.RETRY): CallState.PROCESSING_AI,
}
ILLEGAL = [pair for pair in product(CallState, Trigger) if pair not in TABLE]


@st.composite
def histories(draw: st.DrawFn) -> list[Trigger]:
    """Draw triggers that are legal one after the other."""
    state, history = CallState.IN_PROGRESS, list[Trigger]()
    for _ in range(draw(st.integers(0, 12))):
        known = [trigger for trigger in Trigger if (state, trigger) in TABLE]
        if not known:
            break
        history.append(draw(st.sampled_from(known)))
        state = TABLE[state, history[-1]]
    return history


def walk(history: list[Trigger]) -> list[CallState]:
    """Return the states that *history* leads through."""
    states = [CallState.IN_PROGRESS]
    for trigger in history:
        states.append(advance(states[-1], trigger))
    return states


@pytest.mark.parametrize(("state", "trigger"), TABLE)
def test_legal_trigger_leads_where_the_table_says(state: CallState, trigger: Trigger) -> None:
    assert advance(state, trigger) is TABLE[state, trigger]


@pytest.mark.parametrize(("state", "trigger"), ILLEGAL)
def test_illegal_trigger_is_refused_with_state_and_trigger(state: CallState, trigger: Trigger) -> None:
    with pytest.raises(BadTransition, match=f"^a call that is {state} cannot {trigger}$") as caught:
        advance(state, trigger)
    assert (caught.value.state, caught.value.trigger) == (state, trigger)


@given(histories())
def test_any_legal_history_replays_to_the_same_states(history: list[Trigger]) -> None:
    states = [CallState.IN_PROGRESS]
    for trigger in history:
        states.append(TABLE[states[-1], trigger])
    assert walk(history) == walk(history) == states


@given(histories(), histories())
def test_calls_that_share_the_machine_do_not_disturb_each_other(
    one: list[Trigger], other: list[Trigger]
) -> None:
    here = there = CallState.IN_PROGRESS
    for index in range(max(len(one), len(other))):
        here = advance(here, one[index]) if index < len(one) else here
        there = advance(there, other[index]) if index < len(other) else there
    assert (here, there) == (walk(one)[-1], walk(other)[-1])


@given(histories(), st.lists(st.sampled_from(Trigger), max_size=8))
def test_illegal_triggers_change_nothing(history: list[Trigger], tries: list[Trigger]) -> None:
    state = CallState.IN_PROGRESS
    for trigger in history:
        for illegal in tries:
            if (state, illegal) not in TABLE:
                with pytest.raises(BadTransition):
                    advance(state, illegal)
        state = advance(state, trigger)
    assert state is walk(history)[-1]


def test_a_call_is_final_when_it_is_archived_or_has_failed() -> None:
    assert {state for state in CallState if state.is_final} == {CallState.ARCHIVED, CallState.FAILED}


def test_a_call_takes_packets_until_its_ai_step_starts() -> None:
    assert {state for state in CallState if state.takes_packets} == {
        CallState.IN_PROGRESS,
        CallState.COMPLETED,
    }


def test_only_a_retry_leads_on_from_a_final_state() -> None:
    assert {trigger for state, trigger in TABLE if state.is_final} == {Trigger.RETRY}
