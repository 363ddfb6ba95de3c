"""The events of calls for whoever follows them in this process."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple

from callactors.errors import LogPurged
from callactors.facts import EventKind
from callactors.feed import TOPIC, Feed, FeedEvent, FeedItem
from callactors.hub import Ending, Hub
from callactors.states import CallState
from callactors.store.events import Cursor


class CallEvent(NamedTuple):
    """A committed line of the event log; whoever comes back with its *cursor* is told what is behind it."""

    cursor: str
    call_id: str
    version: int
    kind: EventKind
    from_state: CallState | None
    to_state: CallState
    attempt: int
    at: datetime
    detail: Mapping[str, Any]


async def follow(feed: Feed, hub: Hub[FeedItem], cursor: Cursor) -> AsyncGenerator[CallEvent, None]:
    """Yield what is behind *cursor*, from the log and then as it is published, until *hub* is closed.

    Raises:
        LogPurged: some of it is not in the log.
        StorageUnavailable: the database does not answer.
    """
    if await feed.find_gap(cursor) is not None:
        raise LogPurged
    log_id, last = cursor
    ending: Ending | None = Ending.LAGGED
    while ending is Ending.LAGGED:  # what the subscription has missed is in the log
        with closing(hub.subscribe(TOPIC)) as subscription:
            async for event in feed.read(last):
                last = event.position
                yield _read(log_id, event)
            while items := await subscription.get():
                for item in items:
                    if isinstance(item, FeedEvent) and item.position > last:
                        last = item.position
                        yield _read(log_id, item)
            ending = subscription.ending


def _read(log_id: str, event: FeedEvent) -> CallEvent:
    logged = event.logged
    return CallEvent(
        cursor=str(Cursor(log_id, logged.position)),
        call_id=logged.call_id,
        version=logged.version,
        kind=EventKind(logged.kind),
        from_state=None if logged.from_state is None else CallState(logged.from_state),
        to_state=CallState(logged.to_state),
        attempt=logged.attempt,
        at=logged.at,
        detail=json.loads(logged.detail),
    )
