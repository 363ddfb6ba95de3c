"""Mutants of what PostgreSQL and the way to it promise."""

from typing import Final

from tests.mutants.mutant import Mutant

_FLUSH: Final = "sql/0008_telephony.sql"  # has the newest one
_JOURNAL: Final = "callactors/store/journal.py"

MUTANTS: Final = (
    Mutant(
        name="commit-not-on-disk",
        breaks="a commit does not wait for the disk: `synchronous_commit` is off",
        path="callactors/store/connection.py",
        old='"synchronous_commit": "on"',
        new='"synchronous_commit": "off"',
        tests=("tests/test_connection.py::test_connections_are_durable_and_wait_for_nothing_for_ever",),
    ),
    Mutant(
        name="epoch-unchecked",
        breaks="a flush is taken under any epoch of the call",
        path=_FLUSH,
        old="where c.epoch = b.epoch and c.owner = me",
        new="where c.owner = me",
        tests=("tests/test_flush.py::test_batch_of_another_owner_or_epoch_stores_nothing",),
    ),
    Mutant(
        name="owner-unchecked",
        breaks="a flush is taken from any server, whoever owns the call",
        path=_FLUSH,
        old="where c.epoch = b.epoch and c.owner = me",
        new="where c.epoch = b.epoch",
        tests=("tests/test_flush.py::test_batch_of_another_owner_or_epoch_stores_nothing",),
    ),
    Mutant(
        name="row-not-locked",
        breaks="a flush looks at owner and epoch without the lock of the call's row",
        path=_FLUSH,
        old="order by c.call_id for no key update of c",
        new="order by c.call_id",
        tests=(
            "tests/test_journal.py::test_newer_claim_waits_for_the_older_flush_and_sees_what_it_was_told",
            "tests/test_journal.py::test_flush_behind_a_newer_claim_is_fenced_and_stores_nothing",
        ),
    ),
    Mutant(
        name="packets-twice",
        breaks="a flush that runs twice trips over its own packets",
        path=_FLUSH,
        old="            where is_whole or p.call_no = any (held)\n            on conflict do nothing;",
        new="            where is_whole or p.call_no = any (held);",
        tests=("tests/test_flush.py::test_batch_that_runs_twice_leaves_what_one_run_leaves",),
    ),
    Mutant(
        name="events-twice",
        breaks="a flush that runs twice trips over its own events",
        path=_FLUSH,
        old="        where e.call_no = any (held)\n        on conflict do nothing;",
        new="        where e.call_no = any (held);",
        tests=("tests/test_flush.py::test_batch_that_runs_twice_leaves_what_one_run_leaves",),
    ),
    Mutant(
        name="successors-kept",
        breaks="what was decided behind a refused change is stored all the same",
        path=_JOURNAL,
        old="writer.fail(tickets[position + 1 :], Verdict.RETURNED)\n                return",
        new="continue",
        tests=("tests/test_journal.py::test_changes_behind_a_refused_one_come_back_and_are_not_stored",),
    ),
    Mutant(
        name="publish-before-commit",
        breaks="the feed is told of events before they are committed, and not after",
        path=_JOURNAL,
        old="flushed = await self._flush(parts)",
        new=(
            "self._on_events()\n"
            "                flushed = (await self._flush(parts))._replace(wrote_events=False)"
        ),
        tests=("tests/test_journal.py::test_poke_comes_after_a_commit_with_events_and_not_without",),
    ),
    Mutant(
        name="lease-ignored",
        breaks="a server calls others dead without a lease of heartbeats of its own",
        path="callactors/store/nodes.py",
        old="return now - self._last_beat < LEASE and now - self._steady_since >= LEASE",
        new="return True",
        tests=(
            "tests/test_nodes.py::test_node_may_call_others_dead_only_after_a_lease_of_its_own_heartbeats",
            "tests/test_nodes.py::test_node_that_was_cut_off_begins_its_lease_anew",
        ),
    ),
    Mutant(
        name="dead-stay-alive",
        breaks="a server whose heartbeat is older than its lease keeps its calls",
        path="sql/0001_calls.sql",
        old="where n.node = the_node and n.heartbeat_at > clock_timestamp() - make_interval(secs => lease)",
        new="where n.node = the_node",
        tests=("tests/test_nodes.py::test_due_calls_are_those_of_nobody_of_the_dead_and_mine",),
    ),
    Mutant(
        name="attempt-stored-late",
        breaks="an attempt is counted in the row when it has ended, not before the provider is asked",
        path="callactors/store/rows.py",
        old='"attempt": facts.attempt,',
        new='"attempt": facts.attempt - facts.is_attempting,',
        tests=("tests/test_ai_step.py::test_an_attempt_is_stored_before_the_provider_is_asked",),
    ),
    Mutant(
        name="one-shot-sweeper",
        breaks="what is due is looked for once, at start",
        path="callactors/sweeper.py",
        old="await asyncio.sleep(_INTERVAL)",
        new="await asyncio.sleep(86_400)",
        tests=("tests/test_lifetimes.py::test_a_call_without_packets_for_long_ends",),
    ),
)
