"""Mutants of what endpoints are told."""

from typing import Final

from tests.mutants.mutant import Mutant

_DELIVERIES: Final = "callactors/store/deliveries.py"

MUTANTS: Final = (
    Mutant(
        name="delivered-unanswered",
        breaks="a webhook counts as delivered when it is taken, not when its endpoint has answered",
        path=_DELIVERIES,
        old="attempted_at = clock_timestamp(),\n",
        new="attempted_at = clock_timestamp(), delivered_at = clock_timestamp(),\n",
        tests=(
            "tests/test_deliveries.py::test_a_crash_between_answer_and_commit_delivers_again_under_the_same_id",
        ),
    ),
    Mutant(
        name="webhook-not-leased",
        breaks="a webhook that is being sent is there for every server to take",
        path=_DELIVERIES,
        old="due_at = clock_timestamp() + make_interval(secs => $3)",
        new="due_at = clock_timestamp() + 0 * make_interval(secs => $3)",
        tests=("tests/test_deliveries.py::test_what_is_leased_is_left_to_who_has_it",),
    ),
    Mutant(
        name="disabled-is-told",
        breaks="calls that end while an endpoint is disabled are kept for it",
        path="sql/0011_webhooks.sql",
        old="where e.disabled_at is null and",
        new="where",
        tests=(
            "tests/test_webhooks.py::test_an_endpoint_that_answers_410_is_disabled_and_what_ends_later_is_not_for_it",
        ),
    ),
    Mutant(
        name="erased-is-told",
        breaks="an endpoint is told of a call that was erased meanwhile",
        path="callactors/store/erasure.py",
        old="await connection.execute(_DELETE_DELIVERIES, number)",
        new="pass",
        tests=("tests/test_webhooks.py::test_an_erased_call_has_no_deliveries_any_more",),
    ),
)
