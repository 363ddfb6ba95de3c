"""Endpoints of webhooks: made and changed by administrators at the command line."""

import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from callactors.errors import UnknownEndpoint
from callactors.signing import make_secret
from callactors.store.audit import write_audit
from callactors.store.connection import Connection
from callactors.webhooks import WebhookEvent

_BATCH: Final = 1_000

_INSERT: Final = """
insert into webhook_endpoints (endpoint_id, url, events, secret, note) values ($1, $2, $3, $4, $5)
"""
_LIST: Final = """
select endpoint_id, url, events, note, created_at, disabled_at, disabled_reason from webhook_endpoints
order by created_at, endpoint_id
"""
_ROTATE: Final = """
update webhook_endpoints
set secret = $2, old_secret = secret, old_secret_ends_at = clock_timestamp() + $3::interval
where endpoint_id = $1
"""
_DISABLE: Final = """
update webhook_endpoints set disabled_at = clock_timestamp(), disabled_reason = $2
where endpoint_id = $1 and disabled_at is null
"""
_ENABLE: Final = """
update webhook_endpoints set disabled_at = null, disabled_reason = null, paused_until = null
where endpoint_id = $1
"""
_DELETE: Final = "delete from webhook_endpoints where endpoint_id = $1"
_IS_THERE: Final = "select exists (select from webhook_endpoints where endpoint_id = $1)"
# What a commit that still saw the endpoint adds behind this goes with its call.
_DELETE_DELIVERIES: Final = """
delete from deliveries where ctid = any (array(select ctid from deliveries where endpoint_id = $1 limit $2))
"""


class StoredEndpoint(NamedTuple):
    """What there is to tell of an endpoint."""

    endpoint_id: str
    url: str
    events: Sequence[str]
    note: str
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None


class NewSecret(NamedTuple):
    """The secret that an endpoint's receiver is to know."""

    endpoint_id: str
    secret: str


async def create_endpoint(
    connection: Connection, actor: str, url: str, events: Iterable[WebhookEvent], *, note: str = ""
) -> NewSecret:
    """Make an endpoint, which is told what happens from now on."""
    made = NewSecret(secrets.token_hex(6), make_secret())
    chosen = sorted(events)
    async with connection.transaction():
        await connection.execute(_INSERT, made.endpoint_id, url, chosen, made.secret, note)
        host = urlsplit(url).netloc  # a path may hold a secret, and the audit stays for ever
        await _note(connection, actor, "webhook created", made.endpoint_id, host=host, events=chosen)
    return made


async def list_endpoints(connection: Connection) -> list[StoredEndpoint]:
    """Return all endpoints, the oldest first, without their secrets."""
    return [StoredEndpoint(*record) for record in await connection.fetch(_LIST)]


async def rotate_secret(
    connection: Connection, actor: str, endpoint_id: str, *, overlap: timedelta
) -> NewSecret:
    """Give an endpoint another secret; the one before it signs too for *overlap*.

    Raises:
        UnknownEndpoint: there is none.
    """
    made = NewSecret(endpoint_id, make_secret())
    async with connection.transaction():
        if await connection.execute(_ROTATE, endpoint_id, made.secret, overlap) != "UPDATE 1":
            raise UnknownEndpoint(endpoint_id)
        await _note(connection, actor, "webhook secret rotated", endpoint_id)
    return made


async def disable_endpoint(connection: Connection, actor: str, endpoint_id: str) -> None:
    """Send an endpoint nothing, and keep what it has; what happens from now on is not for it.

    Raises:
        UnknownEndpoint: there is none.
    """
    async with connection.transaction():
        await check_endpoint(connection, endpoint_id)
        if await connection.execute(_DISABLE, endpoint_id, f"by {actor}") == "UPDATE 1":
            await _note(connection, actor, "webhook disabled", endpoint_id)


async def enable_endpoint(connection: Connection, actor: str, endpoint_id: str) -> None:
    """Let an endpoint be told again, first what it had when it was disabled.

    Raises:
        UnknownEndpoint: there is none.
    """
    async with connection.transaction():
        if await connection.execute(_ENABLE, endpoint_id) != "UPDATE 1":
            raise UnknownEndpoint(endpoint_id)
        await _note(connection, actor, "webhook enabled", endpoint_id)


async def delete_endpoint(connection: Connection, actor: str, endpoint_id: str) -> None:
    """Delete an endpoint, and in batches what it has.

    Raises:
        UnknownEndpoint: there is none.
    """
    async with connection.transaction():
        if await connection.execute(_DELETE, endpoint_id) != "DELETE 1":
            raise UnknownEndpoint(endpoint_id)
        await _note(connection, actor, "webhook deleted", endpoint_id)
    while await connection.execute(_DELETE_DELIVERIES, endpoint_id, _BATCH) != "DELETE 0":
        pass


async def check_endpoint(connection: Connection, endpoint_id: str) -> None:
    """Do nothing if there is such an endpoint.

    Raises:
        UnknownEndpoint: there is none.
    """
    if not await connection.fetchval(_IS_THERE, endpoint_id):
        raise UnknownEndpoint(endpoint_id)


async def _note(
    connection: Connection, actor: str, action: str, endpoint_id: str, **detail: str | list[WebhookEvent]
) -> None:
    await write_audit(connection, actor, action, detail={"endpoint": endpoint_id, **detail})
