"""An application's own actor of a call: its hooks, and its messages."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from callactors.actors import Home, RegistryLimits
from callactors.call_actor import CallActor, CallServices
from callactors.errors import Draining, Fenced, MailboxFull, StorageRefused, UnknownCall
from callactors.facts import Accepted, Event
from callactors.messages import Message, OwnMessage
from callactors.packets import Packet
from callactors.processors.contract import CallRecord
from callactors.retry import Done, Outcome
from tests.scenes import COMPLETE, Sql, events, packet, running, until_state
from tests.storage import unstorable


@dataclass(frozen=True, slots=True)
class Recall(OwnMessage[list[str]]):
    """The reply is the data of all packets since the actor began."""


@dataclass(frozen=True, slots=True)
class Fail(OwnMessage[None]):
    pass


class Listener(CallActor):
    """Keeps what it hears of."""

    def __init__(
        self, key: str, home: Home[Message], services: CallServices, *, heard: list[Any] | None = None
    ) -> None:
        super().__init__(key, home, services)
        self.heard = heard if heard is not None else []

    def on_packet(self, packet: Packet, accepted: Accepted) -> None:
        self.heard.append((packet, accepted))

    def on_event(self, event: Event) -> None:
        self.heard.append(event)

    def receive_other(self, message: OwnMessage[Any]) -> object:
        match message:
            case Recall():
                return [told[0].data for told in self.heard if not isinstance(told, Event)]
            case Fail():
                raise LookupError("not today")
            case _:
                return super().receive_other(message)


class Grumbler(CallActor):
    def on_packet(self, packet: Packet, accepted: Accepted) -> None:
        raise RuntimeError("no packets")

    def on_event(self, event: Event) -> None:
        raise RuntimeError("no events")


async def test_each_stored_packet_is_heard_with_what_was_decided(dsn: str) -> None:
    heard: list[tuple[Packet, Accepted]] = []
    async with running(dsn, actor=partial(Listener, heard=heard)) as system:
        await system.accept("c", packet(1))
        heard.clear()  # the event and the packet that begin the call
        answers = [
            await system.accept("c", packet(2)),
            await system.accept("c", packet(4)),
            await system.accept("c", packet(4)),
        ]
    assert heard == list(zip([packet(2), packet(4), packet(4)], answers, strict=True))
    assert [accepted.is_duplicate for _, accepted in heard] == [False, False, True]


async def test_packets_that_come_together_are_heard_one_by_one(dsn: str) -> None:
    heard: list[tuple[Packet, Accepted]] = []
    async with running(dsn, actor=partial(Listener, heard=heard)) as system:
        await system.accept("c", packet(1))
        heard.clear()
        await system.accept_many("c", [packet(n) for n in (2, 3, 4, 6)])
    assert [(p.sequence, a.sequence, a.total_received, a.packets) for p, a in heard] == [
        (2, 2, 2, 1),
        (3, 3, 3, 1),
        (4, 4, 4, 1),
        (6, 6, 5, 1),
    ]
    assert heard[-1][1].gap == (5, 5)


async def test_a_packet_that_was_not_committed_is_not_heard(dsn: str) -> None:
    heard: list[Any] = []
    async with running(dsn, actor=partial(Listener, heard=heard)) as system:
        await system.accept("c", packet(1))
        heard.clear()
        with pytest.raises(StorageRefused):
            await system.accept("c", unstorable(2))
        assert heard == []


async def test_every_event_that_is_committed_is_heard_in_order(dsn: str, sql: Sql) -> None:
    heard: list[Any] = []
    async with running(dsn, actor=partial(Listener, heard=heard)) as system:
        await system.accept("c", packet(1))
        await system.complete("c")
        await until_state(sql, "c", "ARCHIVED")
    told = [event for event in heard if isinstance(event, Event)]
    assert [(e.version, e.detail.get("phase", e.to_state), e.attempt) for e in told] == await events(sql, "c")
    assert told[0].from_state is None


async def test_a_call_that_is_loaded_again_does_not_begin_again(dsn: str) -> None:
    heard: list[Any] = []
    async with running(dsn) as system:
        await system.accept("c", packet(1))
    async with running(dsn, actor=partial(Listener, heard=heard)) as system:
        await system.accept("c", packet(2))
    assert [packet for packet, _ in heard] == [packet(2)]


async def test_hooks_that_fail_are_logged_and_change_nothing(
    dsn: str, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(dsn, actor=Grumbler) as system:
        assert (await system.accept("c", packet(1))).total_received == 1
        await system.complete("c")
        await until_state(sql, "c", "ARCHIVED")
    assert await sql.fetchval("select crashes from calls") == 0
    failed = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert failed.count("no packets") == 1
    assert failed.count("no events") == len(await events(sql, "c"))


async def test_a_message_of_ones_own_is_answered_behind_what_came_before(dsn: str) -> None:
    async with running(dsn, actor=Listener) as system:
        await system.accept("c", packet(1, "a"))
        assert await system.ask("c", Recall()) == ["a"]


async def test_what_a_message_raises_is_the_askers_and_leaves_the_call_alone(dsn: str, sql: Sql) -> None:
    async with running(dsn, actor=Listener) as system:
        await system.accept("c", packet(1, "a"))
        for _ in range(10):
            with pytest.raises(LookupError, match="not today"):
                await system.ask("c", Fail())
        assert await system.ask("c", Recall()) == ["a"]
    assert await sql.fetchval("select crashes from calls") == 0


async def test_an_actor_that_knows_no_such_message_says_so(dsn: str) -> None:
    async with running(dsn) as system:
        await system.accept("c", packet(1))
        with pytest.raises(NotImplementedError, match="CallActor does not know Recall"):
            await system.ask("c", Recall())


async def test_a_message_begins_no_call(dsn: str, sql: Sql) -> None:
    async with running(dsn, actor=Listener) as system:
        with pytest.raises(UnknownCall):
            await system.ask("c", Recall())
    assert await sql.fetchval("select count(*) from calls") == 0


async def test_a_message_that_is_only_told_has_its_failure_logged(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(dsn, actor=Listener) as system:
        await system.accept("c", packet(1))
        system.tell("c", Recall())
        system.tell("c", Fail())
        await system.ask("c", Recall())
    told = [record.message for record in caplog.records if "failed" in record.message]
    assert told == ["call c: Fail failed: LookupError"]


async def test_messages_wait_in_the_mailbox_and_are_refused_when_it_is_full(dsn: str) -> None:
    async with running(dsn, actor=Listener, registry=RegistryLimits(mailbox=1)) as system:
        first = system.accept("c", packet(1, "a"))
        with pytest.raises(MailboxFull):
            system.tell("c", Recall())
        with pytest.raises(MailboxFull):
            system.ask("c", Recall())
        await first
        assert await system.ask("c", Recall()) == ["a"]


async def test_a_message_for_a_call_whose_ai_step_another_server_runs_is_fenced(dsn: str, sql: Sql) -> None:
    async def ask_elsewhere(_: CallRecord) -> Outcome:
        with pytest.raises(Fenced):
            await other.ask("c", Recall())
        return Done()

    async with (
        running(dsn, node="b", actor=Listener) as other,
        running(dsn, ask_elsewhere, node="a", actor=Listener) as system,
    ):
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        await until_state(sql, "c", "ARCHIVED")
        assert (await system.read("c")).call.facts.attempt == 1


async def test_a_draining_system_takes_no_messages(dsn: str) -> None:
    async with running(dsn, actor=Listener) as system:
        await system.accept("c", packet(1))
        system.drain()
        with pytest.raises(Draining):
            system.ask("c", Recall())
