"""Envelopes and the mailbox they wait in."""

import asyncio
from asyncio import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callactors.actors import Envelope, Mailbox
from callactors.errors import ActorFailed, ActorStopped, MailboxFull

ROOMY = 1_000


def filled(*messages: int, limit: int = ROOMY) -> Mailbox[int]:
    mailbox: Mailbox[int] = Mailbox(limit)
    for message in messages:
        mailbox.put(Envelope(message))
    return mailbox


def emptied(mailbox: Mailbox[int]) -> list[int]:
    return [mailbox.take().message for _ in range(len(mailbox))]


def asked() -> "Future[object]":
    return asyncio.get_running_loop().create_future()


def test_envelopes_are_taken_in_the_order_they_were_put() -> None:
    mailbox = filled(1, 2, 3)
    assert len(mailbox) == 3
    assert emptied(mailbox) == [1, 2, 3]


def test_nothing_can_be_taken_from_an_empty_mailbox() -> None:
    mailbox = filled(1)
    mailbox.take()
    assert not mailbox
    with pytest.raises(IndexError):
        mailbox.take()


def test_full_mailbox_refuses_all_but_a_reserved_envelope() -> None:
    mailbox = filled(1, 2, limit=2)
    with pytest.raises(MailboxFull):
        mailbox.put(Envelope(3))
    mailbox.put(Envelope(4), reserved=True)
    mailbox.put(Envelope(5), reserved=True)
    assert emptied(mailbox) == [1, 2, 4, 5]


def test_full_mailbox_has_room_again_after_a_take() -> None:
    mailbox = filled(1, 2, limit=2)
    mailbox.take()
    mailbox.put(Envelope(3))
    assert emptied(mailbox) == [2, 3]


def test_full_mailbox_takes_back_what_came_out_of_it() -> None:
    mailbox = filled(1, 2, limit=2)
    first = mailbox.take()
    mailbox.put(Envelope(3))
    mailbox.put_back([first])
    assert emptied(mailbox) == [1, 2, 3]


def test_what_is_put_back_stands_in_front_of_what_arrived_later() -> None:
    mailbox = filled(1, 2, 3)
    first, second = mailbox.take(), mailbox.take()
    mailbox.put(Envelope(4))
    mailbox.put_back([first, second])
    assert emptied(mailbox) == [1, 2, 3, 4]


def test_what_is_put_back_one_by_one_keeps_its_order() -> None:
    mailbox = filled(1, 2, 3, 4)
    first, second, third = mailbox.take(), mailbox.take(), mailbox.take()
    mailbox.put_back([first])
    mailbox.put_back([second])
    mailbox.put_back([mailbox.take()])
    mailbox.put_back([third])
    assert emptied(mailbox) == [1, 2, 3, 4]


@given(st.lists(st.sampled_from(["put", "take", "put back one", "put back all"])))
def test_mailbox_is_always_in_the_order_of_arrival(steps: list[str]) -> None:
    mailbox = filled()
    waiting: list[int] = []
    taken: list[Envelope[int]] = []
    for number, step in enumerate(steps):
        if step == "put":
            mailbox.put(Envelope(number))
            waiting.append(number)
        elif step == "take" and waiting:
            taken.append(mailbox.take())
            assert taken[-1].message == waiting.pop(0)
        elif taken:
            back = [taken.pop()] if step == "put back one" else taken[:]
            taken = [envelope for envelope in taken if envelope not in back]
            mailbox.put_back(back)
            waiting = sorted([*waiting, *(envelope.message for envelope in back)])
    assert emptied(mailbox) == waiting


async def test_answer_and_error_reach_the_asker() -> None:
    answered, failed = asked(), asked()
    Envelope(1, answered).answer("yes")
    Envelope(2, failed).fail(ActorFailed())
    assert await answered == "yes"
    with pytest.raises(ActorFailed):
        await failed


async def test_only_the_first_answer_counts() -> None:
    reply = asked()
    envelope = Envelope(1, reply)
    envelope.answer("first")
    envelope.answer("second")
    envelope.fail(ActorStopped())
    assert await reply == "first"


async def test_asker_who_has_gone_is_left_alone() -> None:
    reply = asked()
    reply.cancel()
    Envelope(1, reply).answer("late")
    Envelope(1, reply).fail(ActorStopped())
    assert reply.cancelled()


def test_message_that_nobody_asked_can_be_answered() -> None:
    envelope = Envelope(1)
    envelope.answer("nobody")
    envelope.fail(ActorStopped())
    assert envelope.reply is None
