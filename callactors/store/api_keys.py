"""API keys: made, listed, revoked and rotated by administrators, and known to every server within seconds."""

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from asyncpg import Record

from callactors.access import LOCAL, Grant, Scope, hash_secret, make_key, parse_key
from callactors.errors import StorageUnavailable, UnknownKey
from callactors.store.audit import write_audit
from callactors.store.connection import Connection, Pool, reading

log = logging.getLogger(__name__)

REFRESH_INTERVAL: Final = 2.0

_INSERT: Final = """
insert into api_keys (key_id, digest, scopes, prefix, note, expires_at)
values ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)
"""
_LIST: Final = """
select key_id, scopes, prefix, note, created_at, expires_at, revoked_at,
    revoked_at is null and coalesce(expires_at > clock_timestamp(), true) as is_live
from api_keys order by created_at, key_id
"""
_REVOKE: Final = "update api_keys set revoked_at = coalesce(revoked_at, clock_timestamp()) where key_id = $1"
_TO_ROTATE: Final = """
select scopes, prefix, note, expires_at - created_at as lifetime from api_keys
where key_id = $1 and revoked_at is null and coalesce(expires_at > clock_timestamp(), true) for update
"""
_END_SOON: Final = """
update api_keys set expires_at = least(expires_at, clock_timestamp() + $2::interval) where key_id = $1
"""
_LIVE: Final = """
select key_id, digest, scopes, prefix, extract(epoch from expires_at - clock_timestamp())::float8 as lives_for
from api_keys where revoked_at is null and coalesce(expires_at > clock_timestamp(), true)
"""
_ANY: Final = "select exists (select from api_keys)"


class StoredKey(NamedTuple):
    """What there is to tell of a key."""

    key_id: str
    scopes: Sequence[str]
    prefix: str
    note: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    is_live: bool


async def create_key(
    connection: Connection,
    actor: str,
    scopes: Set[Scope],
    *,
    prefix: str = "",
    note: str = "",
    lifetime: timedelta | None = None,
) -> str:
    """Make a key and return it: it cannot be shown again."""
    async with connection.transaction():
        return await _create(connection, actor, "key created", sorted(scopes), prefix, note, lifetime)


async def list_keys(connection: Connection) -> Sequence[StoredKey]:
    """Return all keys, the oldest first, without what would open anything."""
    return [StoredKey(*record) for record in await connection.fetch(_LIST)]


async def revoke_key(connection: Connection, actor: str, key_id: str) -> None:
    """End a key, now and for ever.

    Raises:
        UnknownKey: there is none.
    """
    async with connection.transaction():
        if await connection.execute(_REVOKE, key_id) != "UPDATE 1":
            raise UnknownKey(key_id)
        await write_audit(connection, actor, "key revoked", detail={"key": key_id})


async def rotate_key(connection: Connection, actor: str, key_id: str, *, overlap: timedelta) -> str:
    """Make a key that opens what *key_id* does, which goes on for *overlap*, and return the new one.

    Raises:
        UnknownKey: there is none, or it has ended.
    """
    async with connection.transaction():
        record = await connection.fetchrow(_TO_ROTATE, key_id)
        if record is None:
            raise UnknownKey(key_id)
        await connection.execute(_END_SOON, key_id, overlap)
        return await _create(connection, actor, "key rotated", *record, replaces=key_id)


async def _create(
    connection: Connection,
    actor: str,
    action: str,
    scopes: Sequence[str],
    prefix: str,
    note: str,
    lifetime: timedelta | None,
    **detail: str,
) -> str:
    key = make_key()
    await connection.execute(_INSERT, key.key_id, key.digest, scopes, prefix, note, lifetime)
    told = {"key": key.key_id, "scopes": list(scopes), "prefix": prefix, **detail}
    await write_audit(connection, actor, action, detail=told)
    return key.text


class _Key(NamedTuple):
    digest: bytes
    grant: Grant


class KeyRing:
    """The keys that are good, read every REFRESH_INTERVAL; while the database is away, those known before."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._keys: dict[str, _Key] = {}
        self._holders: dict[Grant, dict[object, Callable[[], None]]] = {}
        self._loop = asyncio.get_running_loop()
        self.is_empty = True
        """Nobody has ever made a key."""

    async def load(self) -> None:
        """Read the keys, and end what was granted to those that are gone.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        try:
            async with reading(self._pool) as connection:
                self.is_empty = not await connection.fetchval(_ANY)
                records = await connection.fetch(_LIVE)
            self._keys = {record["key_id"]: self._read(record) for record in records}
        finally:
            self._end()

    async def run(self) -> None:
        """Read the keys again and again until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL)
            try:
                await self.load()
            except StorageUnavailable:
                log.debug("the keys are not read again: the database does not answer")

    def find(self, text: str) -> Grant | None:
        """Return what the key *text* grants now, or None."""
        parts = parse_key(text)
        if parts is None:
            return None
        digest = hash_secret(parts[1])
        key = self._keys.get(parts[0])
        if key is None or not hmac.compare_digest(digest, key.digest) or key.grant.until <= self._loop.time():
            return None
        return key.grant

    @contextmanager
    def holding(self, grant: Grant, on_end: Callable[[], None]) -> Iterator[None]:
        """Call *on_end* when *grant* ends, at most REFRESH_INTERVAL later, unless this is left first."""
        holder = object()
        self._holders.setdefault(grant, {})[holder] = on_end
        try:
            yield
        finally:
            holders = self._holders.get(grant, {})
            holders.pop(holder, None)
            if not holders:
                self._holders.pop(grant, None)

    def is_good(self, grant: Grant) -> bool:
        """Whether *grant* has not ended; grants that no key gave end only when keys come to be."""
        key = self._keys.get(grant.name)
        if key is None:
            return grant is LOCAL and self.is_empty
        return key.grant.until > self._loop.time()

    def _read(self, record: Record) -> _Key:
        until = float("inf") if record["lives_for"] is None else self._loop.time() + record["lives_for"]
        scopes = frozenset(scope for scope in Scope if scope in record["scopes"])
        return _Key(record["digest"], Grant(record["key_id"], scopes, record["prefix"], until))

    def _end(self) -> None:
        for grant in [grant for grant in self._holders if not self.is_good(grant)]:
            for on_end in self._holders.pop(grant).values():
                on_end()
