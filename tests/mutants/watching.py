"""Mutants of what supervisors are told, and of who may come in."""

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="past-the-horizon",
        breaks="the feed reads past transactions that are open",
        path="callactors/store/events.py",
        old='_HORIZON: Final = "xid < pg_snapshot_xmin(pg_current_snapshot())"',
        new='_HORIZON: Final = "true"',
        tests=(
            "tests/test_log.py::test_events_of_an_open_transaction_hold_later_ones_back_and_none_is_skipped",
        ),
    ),
    Mutant(
        name="queue-without-limit",
        breaks="what a supervisor does not read is kept for it without a limit",
        path="callactors/hub.py",
        old="if len(self._items) >= self._limit:",
        new="if self._limit < 0:",
        tests=("tests/test_hub.py::test_a_full_subscription_ends_at_once_and_the_others_go_on",),
    ),
    Mutant(
        name="snapshot-cursor-late",
        breaks="a supervisor goes on behind the end of its snapshot, not behind its beginning",
        path="callactors/web/supervisor.py",
        old="self._last = snapshot.cursor.position\n        self._is_snapshot_due = False",
        new="self._last = self._feed.cursor.position\n        self._is_snapshot_due = False",
        tests=("tests/test_supervisor.py::test_what_happens_while_a_snapshot_is_read_is_told_after_it",),
    ),
    Mutant(
        name="scope-unchecked",
        breaks="any key opens every route",
        path="callactors/web/guard.py",
        old="if grant.scopes.isdisjoint(opens):",
        new="if not grant.scopes:",
        tests=("tests/test_guard.py::test_a_route_opens_to_its_scopes_and_to_no_other",),
    ),
    Mutant(
        name="prefix-unchecked",
        breaks="a key for some calls opens all of them",
        path="callactors/access.py",
        old="return call_id.startswith(self.prefix)",
        new="return True",
        tests=(
            "tests/test_guard.py::test_a_key_with_a_prefix_opens_its_calls_only",
            "tests/test_guard.py::test_a_supervisor_with_a_prefix_is_told_of_its_calls_only",
        ),
    ),
)
