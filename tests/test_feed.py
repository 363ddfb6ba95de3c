"""The feed: the event log to the hub, in order, with nothing skipped."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from callactors import feed
from callactors.feed import TOPIC, Feed, FeedEvent, FeedItem, text_frame
from callactors.hub import Subscription
from callactors.store.events import Cursor
from tests.scenes import COMPLETE, Sql, packet, running, until_state


async def collect(subscription: Subscription[FeedItem], wanted: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < wanted:
        items = await subscription.get()
        found += [json.loads(item.text) for item in items if isinstance(item, FeedEvent)]
    return found


async def reread(source: Feed, since: str) -> list[tuple[str, int]]:
    cursor = Cursor.parse(since)
    assert cursor is not None
    read = source.read(cursor.position)
    told = [json.loads(event.text) async for event in read]
    return [(event["call_id"], event["version"]) for event in told]


async def test_every_event_is_published_with_what_supervisors_need(dsn: str) -> None:
    async with running(dsn) as system:
        subscription = system.hub.subscribe(TOPIC)
        await system.accept("c", packet(1))
        await system.complete("c", COMPLETE)
        told = await collect(subscription, 6)
    transitions = [event for event in told if event["type"] == "event"]
    assert [event["state"] for event in transitions] == [
        "IN_PROGRESS",
        "COMPLETED",
        "PROCESSING_AI",
        "ARCHIVED",
    ]
    assert [event["from"] for event in transitions] == [None, "IN_PROGRESS", "COMPLETED", "PROCESSING_AI"]
    assert [event["version"] for event in told] == [1, 2, 3, 4, 5, 6]
    assert transitions[0].keys() >= {"type", "call_id", "state", "from", "version", "attempt", "at", "cursor"}


@pytest.mark.parametrize("kept", [1, 5, 4_000])
async def test_what_was_published_can_be_read_again_from_any_cursor(
    dsn: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RECENT", kept)
    async with running(dsn) as system:
        subscription = system.hub.subscribe(TOPIC)
        await asyncio.gather(*(system.accept(f"c{n}", packet(1)) for n in range(20)))
        told = await collect(subscription, 20)
        for position in (0, 7, 14, 15, 19):
            again = await reread(system.feed, told[position]["cursor"])
            assert again == [(event["call_id"], event["version"]) for event in told[position + 1 :]]
    async with running(dsn) as restarted:
        again = await reread(restarted.feed, told[7]["cursor"])
        assert again == [(event["call_id"], event["version"]) for event in told[8:]]


async def test_an_open_transaction_holds_events_back_and_none_is_skipped(dsn: str) -> None:
    other = await asyncpg.connect(dsn)
    transaction = other.transaction()
    async with running(dsn) as system:
        subscription = system.hub.subscribe(TOPIC)
        await transaction.start()
        await other.execute(
            "insert into call_events (call_no, version, call_id, kind, to_state, attempt, detail)"
            " values (0, 1, 'early', 'transition', 'IN_PROGRESS', 0, '{}')"
        )
        await system.accept("late", packet(1))
        while system.feed.lag == 0:  # noqa: ASYNC110  # it has seen that something is held back
            await asyncio.sleep(0.01)
        assert subscription.lag == 0
        await transaction.commit()
        told = await collect(subscription, 2)
    await other.close()
    assert [event["call_id"] for event in told] == ["early", "late"]


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_text_frame_tells_its_size_in_bytes(size: int, header: bytes) -> None:
    assert text_frame("x" * size) == header + b"x" * size
    assert text_frame("\u00e9" * (size // 2))[: len(header)] == header or size % 2


async def test_events_of_another_server_are_published_too(dsn: str, sql: Sql) -> None:
    async with running(dsn, node="a") as a, running(dsn, node="b") as b:
        subscription = b.hub.subscribe(TOPIC)
        await a.accept("c", packet(1))
        await a.complete("c", COMPLETE)
        await until_state(sql, "c", "ARCHIVED")
        assert len(await collect(subscription, 6)) == 6
