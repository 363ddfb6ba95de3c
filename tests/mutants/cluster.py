"""Mutants of several servers that are one."""

from typing import Final

from tests.mutants.mutant import Mutant

_ROUTER: Final = "callactors/cluster/router.py"
_LINK: Final = "callactors/cluster/link.py"
_WATCHDOG: Final = "callactors/watchdog.py"

MUTANTS: Final = (
    Mutant(
        name="steal-on-silence",
        breaks="a call whose server has not answered for a while is taken without asking the database",
        path=_ROUTER,
        old="out_of_reach = frozenset(found)",
        new="out_of_reach = frozenset(one.call_id for one in silent)",
        tests=("tests/test_cluster.py::test_an_owner_that_is_only_slow_keeps_its_call",),
    ),
    Mutant(
        name="ack-before-the-owner",
        breaks="a server answers for its call when the message has come, not when it is stored",
        path="callactors/cluster/answering.py",
        old="        inner.add_done_callback(partial(self._answer, subject))\n",
        new=(
            "        from callactors.facts import Accepted\n"
            '        self._send(subject, Accepted("", 2, False, False, None, 2, ()))\n'
        ),
        tests=("tests/test_cluster.py::test_an_answer_from_elsewhere_waits_for_the_commit",),
    ),
    Mutant(
        name="held-before-claimed",
        breaks="a server listens for a call that it has yet to claim, beside the one that has it",
        path="callactors/call_actor.py",
        old="            creates = isinstance(message, Accept | AcceptMany | BeginStream | TellStatus)\n",
        new=(
            "            if self._services.router is not None:\n"
            "                self._services.router.hold(self.key)\n"
            "            creates = isinstance(message, Accept | AcceptMany | BeginStream | TellStatus)\n"
        ),
        tests=(
            "tests/test_cluster_strays.py::test_a_server_hears_nothing_for_a_call_that_it_has_not_claimed",
        ),
    ),
    Mutant(
        name="moved-is-an-error",
        breaks="that a call has moved on is told to the sender, not asked again elsewhere",
        path=_ROUTER,
        old="_ATTEMPTS: Final = 9",
        new="_ATTEMPTS: Final = 1",
        tests=(
            "tests/test_cluster_order.py::test_a_complete_does_not_overtake_a_packet_whose_call_has_moved",
        ),
    ),
    Mutant(
        name="overtaken-while-moving",
        breaks="what is asked behind a message whose call has moved is sent before it",
        path="callactors/cluster/asked.py",
        old="return call_id in self._stuck",
        new="return False",
        tests=(
            "tests/test_cluster_order.py::test_a_complete_does_not_overtake_a_packet_whose_call_has_moved",
            "tests/test_cluster_order.py::test_packets_behind_one_whose_call_has_moved_stay_in_order",
        ),
    ),
    Mutant(
        name="stale-owner-acks",
        breaks="a server that has lost the call answers with success",
        path="callactors/tickets.py",
        old="            for envelope in ticket.envelopes():\n                try_again(",
        new=(
            "            ticket.tell(ticket.answer)\n"
            "            for envelope in ticket.envelopes():\n                try_again("
        ),
        tests=("tests/test_cluster.py::test_an_owner_whom_nats_does_not_reach_says_so_and_loses_its_call",),
    ),
    Mutant(
        name="connected-is-up",
        breaks="NATS counts as there while it is connected, though nothing comes through",
        path=_LINK,
        old="return self._unheard_since is None or _now() - self._unheard_since < _PATIENCE",
        new="return True",
        tests=(
            "tests/test_cluster.py::test_nats_that_stands_still_is_found_out",
            "tests/test_cluster.py::test_an_owner_whom_nats_does_not_reach_says_so_and_loses_its_call",
        ),
    ),
    Mutant(
        name="held-after-the-stop",
        breaks="a server that stops is still asked for its calls",
        path=_ROUTER,
        old="for call_id in self._link.held:",
        new="for call_id in ():",
        tests=("tests/test_cluster.py::test_a_stopped_server_lets_its_calls_go_at_once",),
    ),
    Mutant(
        name="drop-unheard",
        breaks="a call does not hear that a server with a stream of it is dead",
        path="callactors/system.py",
        old="self._registry.tell(lost.call_id, DropStream(lost.stream, lost.server))",
        new="self.counts",
        tests=("tests/test_cluster_streams.py::test_what_a_dead_server_had_is_found_whoever_has_the_call",),
    ),
    Mutant(
        name="drop-of-the-living",
        breaks="who takes a call over tells all of its streams as dropped",
        path="callactors/call_actor.py",
        old="if lost := call.legs.live - call.legs.servers.keys():",
        new="if lost := call.legs.live:",
        tests=("tests/test_cluster_streams.py::test_a_stream_outlives_a_server_that_gives_its_call_up",),
    ),
    Mutant(
        name="watchdog-asleep",
        breaks="a process whose loop stands still stays",
        path=_WATCHDOG,
        old="os._exit(_FROZEN)",
        new="self.turn()",
        tests=("tests/test_watchdog.py::test_a_process_whose_loop_stands_still_ends_and_says_where",),
    ),
    Mutant(
        name="watchdog-unfair",
        breaks="a process that was stopped as a whole is ended when it goes on",
        path=_WATCHDOG,
        old="if now - looked_at > self._limit / 2:",
        new="if now < looked_at:",
        tests=(
            "tests/test_watchdog.py::test_a_process_that_stood_still_as_a_whole_in_the_middle_of_its_work_lives_on",
        ),
    ),
)
