"""Replies that are waited for too long."""

import asyncio
from asyncio import Future
from typing import Any

import pytest

from callactors.actors.deadlines import Deadlines


def future() -> "Future[Any]":
    return asyncio.get_running_loop().create_future()


async def test_a_future_that_is_not_done_in_time_fails_and_the_others_are_left_alone() -> None:
    deadlines = Deadlines(0.01, LookupError)
    late, done, gone = future(), future(), future()
    for each in (late, done, gone):
        deadlines.watch(each)
    done.set_result(1)
    gone.cancel()
    with pytest.raises(LookupError):
        await late
    assert await done == 1
    assert gone.cancelled()


async def test_each_has_its_own_time() -> None:
    deadlines = Deadlines(0.02, LookupError)
    first, second = future(), future()
    deadlines.watch(first)
    asyncio.get_running_loop().call_later(0.01, deadlines.watch, second)
    with pytest.raises(LookupError):
        await first
    assert not second.done()
    with pytest.raises(LookupError):
        await second


async def test_done_futures_are_not_kept() -> None:
    deadlines = Deadlines(60.0, LookupError)
    for _ in range(1_000):
        each = future()
        deadlines.watch(each)
        each.set_result(None)
    assert len(deadlines._watched) == 1
    deadlines.close()


async def test_closing_leaves_no_timer_and_nobody_who_waits() -> None:
    deadlines = Deadlines(60.0, LookupError)
    answered, waiting = future(), future()
    for each in (answered, waiting):
        deadlines.watch(each)
    answered.set_result(None)
    deadlines.close()
    with pytest.raises(LookupError):
        await waiting
    assert deadlines._timer is None
