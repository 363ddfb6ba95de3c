"""How late the event loop is."""

import asyncio

import pytest

from callactors.loop_lag import LoopLag


async def test_the_loop_is_as_late_as_sleeping_takes_too_long() -> None:
    now, late = 0.0, iter((0.0, 0.003, 0.7))

    async def sleep(seconds: float) -> None:
        nonlocal now
        try:
            now += seconds + next(late)
        except StopIteration:
            raise asyncio.CancelledError from None

    lag = LoopLag(clock=lambda: now, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await lag.run()
    told = {
        bound: count for bound, count in zip(lag.seconds.bounds, lag.seconds.counts, strict=False) if count
    }
    assert told == {0.001: 1, 0.005: 1, 1.0: 1}
    assert lag.seconds.sum == pytest.approx(0.703)
