"""What became of deliveries, and sending some of them again."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from asyncpg import Record

from callactors.store.connection import Connection
from callactors.webhooks import WebhookEvent

_BATCH: Final = 1_000

_JOINED: Final = "deliveries d join calls c on c.call_no = d.call_no"
_OF_ENDPOINT: Final = "($2::text is null or d.endpoint_id = $2)"
_CONDITIONS: Final = {
    "message": "d.message_id = $1",
    "call": "c.call_id = $1",
    "failed": "d.delivered_at is null and d.due_at is null and d.made_at > clock_timestamp() - $1::interval",
    "undelivered": "d.delivered_at is null and d.made_at > clock_timestamp() - $1::interval",
}
_LIST: Final = {
    name: f"""
select d.message_id, d.endpoint_id, c.call_id, e.to_state, d.made_at, d.attempts, d.due_at,
    d.delivered_at, d.answer
from {_JOINED} join call_events e on e.call_no = d.call_no and e.version = d.version
where {condition} and {_OF_ENDPOINT}
order by d.made_at desc, d.call_no desc, d.version, d.endpoint_id limit $3
"""  # noqa: S608  # put together from constants
    for name, condition in _CONDITIONS.items()
}
# What is due for the first time, or again already, is left out, so that batches come to an end.
_REPLAY: Final = {
    name: f"""
update deliveries d set due_at = clock_timestamp(), attempts = 0, delivered_at = null
where d.ctid = any (array(
    select d.ctid from {_JOINED}
    where {condition} and {_OF_ENDPOINT} and (d.due_at is null or d.attempts > 0) limit $3 for update of d
))
"""  # noqa: S608  # put together from constants
    for name, condition in _CONDITIONS.items()
}


class Selection(NamedTuple):
    """Deliveries: those of a *message*, of a *call*, or those that *failed* or are *undelivered* of late.

    One of the first four says which; with an *endpoint* only those to it.
    """

    message: str | None = None
    call: str | None = None
    failed: timedelta | None = None
    undelivered: timedelta | None = None
    endpoint: str | None = None

    @property
    def condition(self) -> tuple[str, str | timedelta]:
        """The name of what it asks for, and the value."""
        for name in _CONDITIONS:
            value: str | timedelta | None = getattr(self, name)
            if value is not None:
                return name, value
        raise ValueError("nothing is selected")


class StoredDelivery(NamedTuple):
    """What there is to tell of a delivery."""

    message_id: str
    endpoint_id: str
    call_id: str
    event: WebhookEvent
    made_at: datetime
    attempts: int
    due_at: datetime | None
    delivered_at: datetime | None
    answer: str | None

    @property
    def state(self) -> str:
        if self.delivered_at is not None:
            return "delivered"
        return "failed" if self.due_at is None else "waits"


async def list_deliveries(connection: Connection, which: Selection, *, limit: int) -> list[StoredDelivery]:
    """Return up to *limit* of them, the newest first."""
    name, value = which.condition
    return [_read(record) for record in await connection.fetch(_LIST[name], value, which.endpoint, limit)]


async def replay(connection: Connection, which: Selection) -> int:
    """Let them be sent again, now and with attempts from 1, delivered ones too, and return how many."""
    name, value = which.condition
    replayed, is_full = 0, True
    while is_full:
        told = await connection.execute(_REPLAY[name], value, which.endpoint, _BATCH)
        updated = int(told.removeprefix("UPDATE "))
        replayed += updated
        is_full = updated == _BATCH
    return replayed


def _read(record: Record) -> StoredDelivery:
    message_id, endpoint_id, call_id, state, *rest = record
    return StoredDelivery(message_id, endpoint_id, call_id, WebhookEvent.of(state), *rest)
