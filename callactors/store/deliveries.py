"""Deliveries: what endpoints are to be told, leased to whoever tells it, and what came of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from asyncpg import Record

from callactors.store.connection import Connection
from callactors.store.summaries import tell_time
from callactors.webhooks import WebhookEvent

MAX_RESULT: Final = 16_384
"""Bytes of a result that a message has in it; a longer one is to be read from the API."""
BACKLOG_BOUND: Final = 100_000

_HAS_ENDPOINTS: Final = "select exists (select from webhook_endpoints where disabled_at is null)"
# Each endpoint has a share of its own, so that none is behind another. A generation begins with an event that
# tells it; of an erased call no event tells anything, and its row is of the last.
_TAKE: Final = """
with due as materialized (
    select d.* from webhook_endpoints e cross join lateral (
        select d.call_no, d.version, d.endpoint_id from deliveries d
        where d.endpoint_id = e.endpoint_id and d.due_at <= statement_timestamp()
        order by d.due_at limit greatest($1 - coalesce(($2::jsonb->>e.endpoint_id)::int, 0), 0)
        for update skip locked
    ) d
    where e.disabled_at is null and coalesce(e.paused_until <= statement_timestamp(), true)
), taken as (
    update deliveries d set attempts = d.attempts + 1, attempted_at = clock_timestamp(),
        due_at = clock_timestamp() + make_interval(secs => $3)
    from due where d.call_no = due.call_no and d.version = due.version and d.endpoint_id = due.endpoint_id
    returning d.call_no, d.version, d.endpoint_id, d.message_id, d.attempts
)
select t.*, n.url, n.secret,
    case when n.old_secret_ends_at > clock_timestamp() then n.old_secret end as old_secret,
    c.call_id, c.started_at, c.completed_at, e.from_state, e.to_state, e.attempt, e.at, e.detail,
    coalesce(e.detail->>'end_reason', c.end_reason) as end_reason,
    coalesce((
        select (g.detail->>'generation')::int from call_events g
        where g.call_no = t.call_no and g.version < t.version and g.detail ? 'generation'
        order by g.version desc limit 1
    ), case when c.erased_at is null then 1 else c.generation end) as generation,
    octet_length(c.result::text) as result_bytes,
    case when octet_length(c.result::text) <= $4 then c.result end as result
from taken t join webhook_endpoints n on n.endpoint_id = t.endpoint_id join calls c on c.call_no = t.call_no
    join call_events e on e.call_no = t.call_no and e.version = t.version
"""
# An attempt that has lost its lease says only that it was delivered after all.
_SETTLE: Final = """
update deliveries d set answer = s.answer, due_at = clock_timestamp() + make_interval(secs => s.wait),
    delivered_at = case when s.is_delivered then clock_timestamp() end
from unnest($1::bigint[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::float8[], $7::bool[])
    s (call_no, version, endpoint_id, attempt, answer, wait, is_delivered)
where d.call_no = s.call_no and d.version = s.version and d.endpoint_id = s.endpoint_id
    and d.delivered_at is null and (d.attempts = s.attempt or s.is_delivered)
"""
_PAUSE: Final = """
update webhook_endpoints
set paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => $2))
where endpoint_id = $1
"""
_GONE: Final = """
update webhook_endpoints set disabled_at = clock_timestamp(), disabled_reason = 'it answered 410'
where endpoint_id = $1 and disabled_at is null
"""
_BACKLOG: Final = """
select count(*) as pending,
    greatest(coalesce(extract(epoch from clock_timestamp() - min(d.due_at)), 0), 0)::float8 as oldest
from webhook_endpoints e cross join lateral (
    select d.due_at from deliveries d where d.endpoint_id = e.endpoint_id and d.due_at is not null
    order by d.due_at limit $1
) d where e.disabled_at is null
"""


class Delivery(NamedTuple):
    """What is to be sent now, for the *attempt*-th time; *secrets* are all that sign it."""

    call_no: int
    version: int
    endpoint_id: str
    attempt: int
    call_id: str
    message_id: str
    url: str
    secrets: Sequence[str]
    body: bytes


class Settled(NamedTuple):
    """What came of an attempt: *wait* is the seconds until the next one, None if it was the last.

    *pause* is for how long the endpoint wants nothing at all; *is_gone*: it wants nothing any more.
    """

    delivery: Delivery
    answer: str
    is_delivered: bool = False
    wait: float | None = None
    pause: float | None = None
    is_gone: bool = False


class Backlog(NamedTuple):
    """How many enabled endpoints are still to get, and for how many seconds the oldest has been due."""

    pending: int
    oldest: float


async def has_endpoints(connection: Connection) -> bool:
    """Whether there is an endpoint that is told anything."""
    return bool(await connection.fetchval(_HAS_ENDPOINTS))


async def take(connection: Connection, busy: Mapping[str, int], *, most: int, lease: float) -> list[Delivery]:
    """Return what is due: with what it is *busy* with already, an endpoint has at most so many.

    For *lease* seconds nobody else takes it.
    """
    records = await connection.fetch(_TAKE, most, json.dumps(busy), lease, MAX_RESULT)
    return [_read(record) for record in records]


async def settle(connection: Connection, settled: Sequence[Settled]) -> None:
    """Write down what came of attempts, first what it means for endpoints; doing it again changes nothing."""
    for one in settled:
        if one.is_gone:
            await connection.execute(_GONE, one.delivery.endpoint_id)
        elif one.pause is not None:
            await connection.execute(_PAUSE, one.delivery.endpoint_id, one.pause)
    await connection.execute(
        _SETTLE,
        [one.delivery.call_no for one in settled],
        [one.delivery.version for one in settled],
        [one.delivery.endpoint_id for one in settled],
        [one.delivery.attempt for one in settled],
        [one.answer for one in settled],
        [one.wait for one in settled],
        [one.is_delivered for one in settled],
    )


async def read_backlog(connection: Connection) -> Backlog:
    """Return what waits, counted up to BACKLOG_BOUND for each endpoint."""
    [record] = await connection.fetch(_BACKLOG, BACKLOG_BOUND)
    return Backlog(*record)


def _read(record: Record) -> Delivery:
    secrets = [record["secret"], record["old_secret"]]
    return Delivery(
        record["call_no"],
        record["version"],
        record["endpoint_id"],
        record["attempts"],
        record["call_id"],
        record["message_id"],
        record["url"],
        [secret for secret in secrets if secret is not None],
        _write_body(record),
    )


def _write_body(record: Record) -> bytes:
    """Return the message, the same at each attempt: it is made of what does not change any more."""
    state = record["to_state"]
    data: dict[str, Any] = {
        "call_id": record["call_id"],
        "state": state,
        "from": record["from_state"],
        "version": record["version"],
        "generation": record["generation"],
        "attempt": record["attempt"],
        "end_reason": record["end_reason"],
        "started_at": tell_time(record["started_at"]),
        "completed_at": tell_time(record["completed_at"]),
    }
    event = WebhookEvent.of(state)
    if event is WebhookEvent.FAILED:
        data["last_error"] = json.loads(record["detail"]).get("last_error")
    elif record["result_bytes"] is None or record["result"] is not None:
        data["result"] = None if record["result"] is None else json.loads(record["result"])
    else:
        data["result_bytes"] = record["result_bytes"]
    told = {"type": event, "timestamp": tell_time(record["at"]), "data": data}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
