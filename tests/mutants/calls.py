"""Mutants of the actors and of what they decide."""

from typing import Final

from tests.mutants.mutant import Mutant

_CALL: Final = "callactors/call.py"
_GATE: Final = "callactors/processors/gate.py"
_REGISTRY: Final = "callactors/actors/registry.py"
_TICKETS: Final = "callactors/tickets.py"
_ANSWERED: Final = "tests/test_system.py::test_a_packet_and_its_repeat_are_answered_after_the_commit"

MUTANTS: Final = (
    Mutant(
        name="answer-before-commit",
        breaks="a sender is answered when its packet is decided, not when it is stored",
        path=_TICKETS,
        old="        self.answer = answer\n",
        new=(
            "        self.answer = answer\n"
            "        if type(self) is CallTicket:\n            self.tell(answer)\n"
        ),
        tests=(_ANSWERED,),
    ),
    Mutant(
        name="duplicate-overtakes",
        breaks="a duplicate is answered although its original is not yet stored",
        path=_TICKETS,
        old="        self.answer = answer\n",
        new=(
            "        self.answer = answer\n"
            "        if change.is_repeat and type(self) is CallTicket:\n            self.tell(answer)\n"
        ),
        tests=(_ANSWERED,),
    ),
    Mutant(
        name="cancellation-swallowed",
        breaks="an actor's loop goes on with the next message when it is cancelled",
        path=_REGISTRY,
        old="envelope.fail(ActorStopped())\n                raise",
        new="envelope.fail(ActorStopped())",
        tests=(
            "tests/test_registry_failures.py"
            "::test_message_whose_receive_is_cancelled_from_inside_leaves_nobody_waiting",
        ),
    ),
    Mutant(
        name="leftovers-unanswered",
        breaks="what is left in the mailboxes at the stop is never answered",
        path=_REGISTRY,
        old="        while self._mailbox:\n            self._mailbox.take().fail(error)\n",
        new="",
        tests=("tests/test_registry_stop.py::test_leftovers_are_answered_after_the_timeout",),
    ),
    Mutant(
        name="message-lost-on-leave",
        breaks="what arrives while an actor leaves is forgotten with it",
        path=_REGISTRY,
        old="if not self._mailbox:\n                    self._go()\n                    return",
        new="self._go()\n                return",
        tests=(
            "tests/test_registry_passivation.py"
            "::test_message_told_in_the_last_line_of_on_stop_is_received_by_the_next_actor",
        ),
    ),
    Mutant(
        name="leave-without-drain",
        breaks="an actor leaves while its changes are still on their way to the disk",
        path="callactors/call_actor.py",
        old="        self._submit(writer, call.release(), Envelope(Wake()))\n        await writer.drained()",
        new="        self._submit(writer, call.release(), Envelope(Wake()))",
        tests=("tests/test_call_actor.py::test_an_actor_leaves_when_its_changes_are_stored",),
    ),
    Mutant(
        name="no-grace",
        breaks="packets on their way are not waited for behind a complete",
        path=_CALL,
        old="wake_in=grace)",
        new="wake_in=0.0)",
        tests=("tests/test_call.py::test_complete_waits_for_packets_in_flight",),
    ),
    Mutant(
        name="never-closed",
        breaks="packets are taken after the AI step began, which will not see them",
        path="callactors/states.py",
        old="return self in (CallState.IN_PROGRESS, CallState.COMPLETED)",
        new="return not self.is_final",
        tests=(
            "tests/test_call.py::test_packet_after_the_ai_step_started_is_refused",
            "tests/test_system.py::test_packets_are_taken_in_the_grace_and_refused_behind_it",
        ),
    ),
    Mutant(
        name="given-back-counts",
        breaks="an attempt that an orderly stop gave back counts",
        path=_CALL,
        old="self.facts = replace(self.facts, attempt=self.facts.attempt - 1)",
        new="pass",
        tests=(
            "tests/test_call_attempts.py::test_attempt_that_was_given_back_does_not_count",
            "tests/test_system.py::test_an_orderly_stop_gives_the_running_attempt_back",
        ),
    ),
    Mutant(
        name="step-time-forgotten",
        breaks="the time for the whole AI step begins anew with each start of the server",
        path="callactors/ai_step.py",
        old="monotonic() + services.policy.step_timeout - age",
        new="monotonic() + services.policy.step_timeout",
        tests=("tests/test_ai_step.py::test_the_time_for_the_step_goes_on_while_the_server_is_down",),
    ),
    Mutant(
        name="gate-without-limit",
        breaks="any number of attempts runs at once",
        path=_GATE,
        old="return self.running < most[self.state]",
        new="return most[self.state] > 0",
        tests=(
            "tests/test_gate.py::test_passes_are_bounded_and_come_in_order",
            "tests/test_ai_step.py::test_no_more_attempts_run_at_once_than_may",
        ),
    ),
    Mutant(
        name="never-paused",
        breaks="a provider that is down is asked on and on, and attempts are used up",
        path=_GATE,
        old="is_down = self.state is GateState.TRYING or 0 < self.limits.failures <= self._failures",
        new="is_down = False",
        tests=("tests/test_gate.py::test_failures_in_a_row_pause_the_step_and_one_call_tries",),
    ),
)
