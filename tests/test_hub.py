"""Topics and bounded subscriptions."""

import asyncio

from callactors.hub import Ending, Hub


async def test_a_subscription_gets_what_is_published_after_it_in_order() -> None:
    hub: Hub[int] = Hub()
    hub.publish("t", 0)
    subscription = hub.subscribe("t")
    for item in (1, 2, 3):
        hub.publish("t", item)
    hub.publish("other", 4)
    assert await subscription.get() == [1, 2, 3]


async def test_a_waiting_subscriber_is_woken() -> None:
    hub: Hub[int] = Hub()
    subscription = hub.subscribe("t")
    waiting = asyncio.create_task(subscription.get())
    await asyncio.sleep(0)
    hub.publish("t", 1)
    assert await waiting == [1]


async def test_a_full_subscription_ends_at_once_and_the_others_go_on() -> None:
    hub: Hub[int] = Hub(limit=2)
    endings: list[Ending] = []
    slow, fast = hub.subscribe("t", endings.append), hub.subscribe("t")
    hub.publish("t", 1)
    hub.publish("t", 2)
    assert await fast.get() == [1, 2]
    hub.publish("t", 3)
    assert endings == [Ending.LAGGED]
    assert await slow.get() == []
    assert slow.ending is Ending.LAGGED
    assert await fast.get() == [3]
    assert hub.count("t") == 1


async def test_closing_the_hub_wakes_everybody_and_leaves_nothing() -> None:
    hub: Hub[int] = Hub()
    first, second = hub.subscribe("t"), hub.subscribe("u")
    waiting = asyncio.create_task(first.get())
    await asyncio.sleep(0)
    hub.publish("u", 7)
    hub.close()
    assert await waiting == []
    assert await second.get() == [7]
    assert await second.get() == []
    assert (hub.count("t"), hub.count("u")) == (0, 0)


async def test_a_cancelled_subscriber_can_get_again() -> None:
    hub: Hub[int] = Hub()
    subscription = hub.subscribe("t")
    waiting = asyncio.create_task(subscription.get())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    hub.publish("t", 1)
    assert await subscription.get() == [1]


async def test_an_end_is_told_once_and_not_to_who_has_closed_it() -> None:
    hub: Hub[int] = Hub()
    endings: list[Ending] = []
    ours, other = hub.subscribe("t", endings.append), hub.subscribe("t", endings.append)
    ours.close()
    assert (ours.ending, endings) == (Ending.CLOSED, [])
    hub.close()
    hub.close()
    other.close()
    assert endings == [Ending.CLOSED]


async def test_a_subscription_to_a_closed_hub_has_ended() -> None:
    hub: Hub[int] = Hub()
    hub.close()
    endings: list[Ending] = []
    subscription = hub.subscribe("t", endings.append)
    assert endings == [Ending.CLOSED]
    assert await subscription.get() == []
    assert hub.count("t") == 0
