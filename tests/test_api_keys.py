"""Keys in the database: made, found, ended, rotated, and told to every server."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from callactors.access import LOCAL, Scope
from callactors.errors import StorageUnavailable, UnknownKey
from callactors.store.api_keys import KeyRing, create_key, list_keys, revoke_key, rotate_key
from callactors.store.audit import read_audit, try_to_write_audit
from callactors.store.connection import close_pool, open_pool
from tests.proxy import proxy_to
from tests.storage import Sql

INGEST = {Scope.INGEST}
ME = "me@here"


@pytest.fixture
async def ring(dsn: str) -> AsyncIterator[KeyRing]:
    pool = await open_pool(dsn, size=1)
    yield KeyRing(pool)
    await close_pool(pool)


def id_of(text: str) -> str:
    return text.split("_")[1]


async def test_a_key_grants_what_it_was_made_for(ring: KeyRing, sql: Sql) -> None:
    text = await create_key(sql, ME, {Scope.SUPERVISE, Scope.ADMIN}, prefix="acme-", note="wallboard")
    await ring.load()
    grant = ring.find(text)
    assert grant is not None
    assert (grant.name, grant.prefix) == (id_of(text), "acme-")
    assert grant.scopes == {Scope.SUPERVISE, Scope.ADMIN}


async def test_nothing_that_opens_is_kept(sql: Sql) -> None:
    text = await create_key(sql, ME, INGEST)
    dump = [
        str(dict(row)) for table in ("api_keys", "audit") for row in await sql.fetch(f"select * from {table}")
    ]
    assert text.split("_", 2)[2] not in "".join(dump)


@pytest.mark.parametrize("wrong", ["", "nonsense", "ca_000000000000_" + "x" * 43])
async def test_another_key_finds_nothing(ring: KeyRing, sql: Sql, wrong: str) -> None:
    await create_key(sql, ME, INGEST)
    await ring.load()
    assert ring.find(wrong) is None


async def test_the_right_id_with_another_secret_finds_nothing(ring: KeyRing, sql: Sql) -> None:
    one, other = await create_key(sql, ME, INGEST), await create_key(sql, ME, INGEST)
    await ring.load()
    assert ring.find(f"ca_{id_of(one)}_{other.split('_', 2)[2]}") is None


async def test_a_ring_is_empty_until_the_first_key_and_never_again(ring: KeyRing, sql: Sql) -> None:
    states = [ring.is_empty]
    text = await create_key(sql, ME, INGEST)
    await revoke_key(sql, ME, id_of(text))
    await ring.load()
    states.append(ring.is_empty)
    assert states == [True, False]  # who ends the last key does not open the server
    assert ring.find(text) is None


async def test_the_end_of_a_key_ends_what_it_granted(ring: KeyRing, sql: Sql) -> None:
    text, other = await create_key(sql, ME, INGEST), await create_key(sql, ME, INGEST)
    await ring.load()
    first, second = ring.find(text), ring.find(other)
    assert first is not None
    assert second is not None
    ended: list[str] = []
    with (
        ring.holding(first, lambda: ended.append("first")),
        ring.holding(second, lambda: ended.append("second")),
    ):
        await ring.load()
        assert not ended
        await revoke_key(sql, ME, id_of(text))
        await ring.load()
        assert ended == ["first"]
    await revoke_key(sql, ME, id_of(other))
    await ring.load()
    assert ended == ["first"]  # the second was over by then


async def test_the_first_key_ends_what_was_granted_without(ring: KeyRing, sql: Sql) -> None:
    ended: list[str] = []
    with ring.holding(LOCAL, lambda: ended.append("local")):
        await ring.load()
        assert not ended
        await create_key(sql, ME, INGEST)
        await ring.load()
        assert ended == ["local"]


async def test_a_key_expires_also_while_the_database_is_away(dsn: str, sql: Sql) -> None:
    text = await create_key(sql, ME, INGEST, lifetime=timedelta(hours=1))
    async with proxy_to(dsn) as proxy:
        pool = await open_pool(proxy.dsn, size=1)
        ring = KeyRing(pool)
        await ring.load()
        grant = ring.find(text)
        assert grant is not None
        proxy.refuse()
        with pytest.raises(StorageUnavailable):
            await ring.load()
        assert ring.find(text) == grant  # what was known stays known
        ring._keys[grant.name] = ring._keys[grant.name]._replace(
            grant=replace(grant, until=0.0)
        )  # its hour is over
        ended: list[str] = []
        with ring.holding(grant, lambda: ended.append("expired")):
            with pytest.raises(StorageUnavailable):
                await ring.load()
            assert ended == ["expired"]
        assert ring.find(text) is None
        await close_pool(pool)


async def test_a_rotated_key_goes_on_for_a_while_beside_the_new_one(ring: KeyRing, sql: Sql) -> None:
    old = await create_key(sql, ME, INGEST, prefix="p", note="n", lifetime=timedelta(days=30))
    new = await rotate_key(sql, ME, id_of(old), overlap=timedelta(hours=1))
    await ring.load()
    assert ring.find(old)
    assert ring.find(new)
    first, second = await list_keys(sql)
    assert (second.scopes, second.prefix, second.note) == (first.scopes, "p", "n")
    assert first.expires_at is not None
    assert second.expires_at is not None
    assert second.expires_at - second.created_at > timedelta(days=29)
    assert first.expires_at - first.created_at < timedelta(hours=2)


async def test_a_key_that_has_ended_cannot_be_rotated(sql: Sql) -> None:
    old = await create_key(sql, ME, INGEST)
    await revoke_key(sql, ME, id_of(old))
    for key_id in (id_of(old), "none"):
        with pytest.raises(UnknownKey):
            await rotate_key(sql, ME, key_id, overlap=timedelta(0))
    with pytest.raises(UnknownKey):
        await revoke_key(sql, ME, "none")


async def test_what_is_done_stays_done_without_a_line_in_the_audit(
    sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    await sql.execute("alter table audit add check (false) not valid")
    await try_to_write_audit(sql, ME, "calls purged", detail={"calls": 7})
    assert "calls purged, but there is no line in the audit" in caplog.text


async def test_the_audit_tells_who_did_what_and_cannot_be_changed(sql: Sql) -> None:
    text = await create_key(sql, ME, INGEST)
    await revoke_key(sql, ME, id_of(text))
    lines = await read_audit(sql, before=None, limit=10)
    assert [(line["actor"], line["action"], line["detail"]["key"]) for line in lines] == [
        (ME, "key revoked", id_of(text)),
        (ME, "key created", id_of(text)),
    ]
    assert await read_audit(sql, before=lines[0]["number"], limit=10) == lines[1:]
    for change in ("update audit set actor = 'x'", "delete from audit", "truncate audit"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql.execute(change)
