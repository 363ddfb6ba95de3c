"""What the code can be broken with, to see whether the simulation notices."""

from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """What is broken: in *module*, *old* becomes *new*."""

    name: str
    module: str
    old: str
    new: str


_ACTOR: Final = "callactors.call_actor"
_JOURNAL: Final = "callactors.store.journal"
_REGISTRY: Final = "callactors.actors.registry"
_SUBMIT: Final = "        writer.submit(CallTicket(self.on_settled, writer, change, envelope, answer))\n"
_ACCEPT: Final = (
    "                self._submit(writer, self._with_checkpoint(call, change), envelope, accepted)\n"
)

MUTANTS: Final = (
    Mutant(
        "answered before the commit",
        _ACTOR,
        _SUBMIT,
        "        ticket = CallTicket(self.on_settled, writer, change, envelope, answer)\n"
        "        ticket.tell(answer)\n"
        "        writer.submit(ticket)\n",
    ),
    Mutant(
        "a duplicate is answered before its original",
        _ACTOR,
        _ACCEPT,
        "                if accepted.is_duplicate:\n"
        "                    envelope.answer(accepted)\n"
        "                    return\n" + _ACCEPT,
    ),
    Mutant(
        "the fence does not check the epoch",
        "tests.simulation.functions",
        "row.epoch == wanted[number] and row.owner == me",
        "row.owner == me",
    ),
    Mutant(
        "the fence checks nothing",
        "tests.simulation.functions",
        "row if row and row.epoch == wanted[number] and row.owner == me else None",
        "row",
    ),
    Mutant(
        "a claim takes from the living",
        "tests.simulation.tables",
        "return may_take_stale and not self.is_alive(owner, lease)",
        "return True",
    ),
    Mutant(
        "stale heartbeats are believed at once",
        "callactors.store.nodes",
        "return now - self._last_beat < LEASE and now - self._steady_since >= LEASE",
        "return True",
    ),
    Mutant(
        "an attempt begins before it is stored",
        _ACTOR,
        _SUBMIT,
        _SUBMIT + "        if change.row is not None and change.events:\n"
        "            self._act(change.row, change.events)\n",
    ),
    Mutant("what is overtaken is acted upon", _ACTOR, " and not self._is_overtaken(change.row.facts)", ""),
    Mutant(
        "what was due stays due",
        _ACTOR,
        "                self._disarm()\n                self._leave_step()",
        "                self._leave_step()",
    ),
    Mutant(
        "an attempt that never ran keeps its pass",
        "callactors.ai_step",
        "self._attempt.add_done_callback(lambda _: admitted.give_back())",
        "pass",
    ),
    Mutant(
        "the claim does not read the tail",
        "callactors.store.rows",
        "        call.restore(stream, sequence)\n",
        "        pass\n",
    ),
    Mutant(
        "actors that are left at stop do not answer",
        _REGISTRY,
        "self._mailbox.take().fail(error)",
        "self._mailbox.take()",
    ),
    Mutant("the journal does not answer at its end", _JOURNAL, "writer.fail([], Verdict.ABANDONED)", "pass"),
    Mutant(
        "an actor leaves before its changes are stored",
        _ACTOR,
        "        self._submit(writer, call.release(), Envelope(Wake()))\n        await writer.drained()\n",
        "        self._submit(writer, call.release(), Envelope(Wake()))\n",
    ),
    Mutant(
        "an actor leaves with messages in its mailbox",
        _REGISTRY,
        "                if not self._mailbox:\n                    self._go()\n                    return\n",
        "                self._go()\n                return\n",
    ),
    Mutant(
        "what was decided on top of a refused change is kept",
        _JOURNAL,
        "                writer.fail(tickets[position + 1 :], Verdict.RETURNED)\n                return\n",
        "                continue\n",
    ),
    Mutant(
        "what comes back goes to the end of the mailbox",
        "callactors.actors.mailbox",
        "insort(self._items, envelope, key=_ARRIVAL)",
        "self._items.append(envelope)",
    ),
    Mutant(
        "the sweeper sweeps once",
        "callactors.sweeper",
        "await asyncio.sleep(_INTERVAL)",
        "await asyncio.sleep(1e9)",
    ),
    Mutant(
        "the journal swallows its cancellation",
        _JOURNAL,
        "except Exception as error:  # noqa: BLE001  # whatever is wrong with one change",
        "except BaseException as error:  # noqa: BLE001  # whatever is wrong with one change",
    ),
    Mutant(
        "locked calls are not looked at again",
        _JOURNAL,
        "if not (self._ready or self._unawaited or self._is_to_look):",
        "if not (self._ready or self._unawaited):",
    ),
    Mutant(
        "a commit of unknown outcome is not run again",
        "callactors.store.connection",
        "                self._lose(error)\n",
        "                self._lose(error)\n"
        "                if not is_connecting and gives_way:\n"
        "                    raise\n",
    ),
    Mutant(
        "the fence does not check the owner",
        "tests.simulation.functions",
        "row.epoch == wanted[number] and row.owner == me",
        "row.epoch == wanted[number]",
    ),
    Mutant(
        "the actor's loop swallows its cancellation",
        _REGISTRY,
        "                envelope.fail(ActorStopped())\n                raise\n",
        "                envelope.fail(ActorStopped())\n",
    ),
)

HARMLESS: Final = frozenset(
    {"the fence does not check the owner", "the actor's loop swallows its cancellation"}
)
"""What changes nothing: who takes a call raises its epoch, and a loop that is cancelled has nothing left."""
