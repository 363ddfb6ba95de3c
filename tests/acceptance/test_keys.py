"""Keys at the command line, and a server that needs them, with TLS and without."""

import asyncio
import re
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from tests.acceptance.fixtures import Serve
from tests.acceptance.history import Sql
from tests.acceptance.server import QUICK, Finished, Server, run

PACKET = {"sequence": 1, "data": "x", "timestamp": 1.0}
KEY = re.compile(r"ca_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\n")


async def make_key(place: Path, *scopes: str, **options: Any) -> str:
    """Make a key at the command line and return it."""
    words = [word for scope in scopes for word in ("--scope", scope)]
    done = await run(place, "keys", "create", *words, **options)
    assert done.code == 0, done
    assert KEY.fullmatch(done.out), done
    return done.out.strip()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_keys_are_made_listed_rotated_and_revoked(tmp_path: Path, dsn: str) -> None:
    async def keys(*words: str) -> Finished:
        return await run(tmp_path, "keys", *words, dsn=dsn)

    assert (await keys("list")).out.split() == ["id", "scopes", "prefix", "made", "ends", "state", "note"]
    options = ("--expires", "90d", "--prefix", "acme-", "--note", "the wall")
    made = await keys("create", "--scope", "ingest", "--scope", "supervise", *options)
    key_id = made.out.split("_")[1]
    rotated = await keys("rotate", key_id, "--overlap", "1h")
    assert KEY.fullmatch(rotated.out)
    assert (await keys("revoke", key_id)).code == 0
    told = (await keys("list")).out
    first, second = told.splitlines()[1:]
    assert first.startswith(f"{key_id}  ingest,supervise  acme-")
    assert "revoked  the wall" in first
    assert "good" in second
    assert made.out.split("_", 2)[2].strip() not in told


@pytest.mark.parametrize(
    ("words", "code", "phrase"),
    [
        (("create",), 2, "--scope"),
        (("create", "--scope", "everything"), 2, "everything"),
        (("create", "--scope", "ingest", "--expires", "soon"), 2, "as 90d"),
        (("create", "--scope", "ingest", "--prefix", "no such"), 2, "no call id begins so"),
        (("revoke",), 2, "ID"),
        (("revoke", "nobody"), 1, "no key nobody"),
        (("rotate", "nobody"), 1, "no key nobody"),
        ((), 2, "ACTION"),
    ],
)
async def test_what_cannot_be_done_is_told(
    tmp_path: Path, dsn: str, words: tuple[str, ...], code: int, phrase: str
) -> None:
    done = await run(tmp_path, "keys", *words, dsn=dsn)
    assert (done.code, done.out) == (code, "")
    assert phrase in done.error
    assert "Traceback" not in done.error


async def test_keys_of_an_own_postgres_are_made_while_it_runs_and_while_it_does_not(
    tmp_path: Path, data_dir: Path
) -> None:
    settings = {**QUICK, "data_dir": str(data_dir)}
    before = await make_key(tmp_path, "ingest", settings=settings)
    async with Server(tmp_path, settings=settings) as server, aiohttp.ClientSession(server.url) as session:
        path = "/v1/call/stream/c"
        async with session.post(path, json=PACKET) as response:
            assert response.status == 401
        async with session.post(path, json=PACKET, headers=bearer(before)) as response:
            assert response.status == 202
        during = await make_key(tmp_path, "supervise", settings=settings)
        async with asyncio.timeout(5):
            while True:
                async with session.get("/v1/call/c", headers=bearer(during)) as response:
                    if response.status == 200:
                        return


async def test_a_server_beyond_loopback_needs_keys(tmp_path: Path, dsn: str, serve: Serve) -> None:
    refused = await run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", dsn=dsn, settings=QUICK)
    assert (refused.code, refused.out) == (2, "")
    assert "callactors keys create" in refused.error
    assert "--insecure" in refused.error
    await make_key(tmp_path, "ingest", dsn=dsn)
    server = await serve(host="0.0.0.0")
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}/v1/call/stream/c"
        async with session.post(url, json=PACKET) as response:
            assert response.status == 401


async def read_to_close(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    while not ws.closed:
        await ws.receive()
    return ws.close_code


async def test_a_revoked_key_closes_its_sockets_within_seconds(
    tmp_path: Path, dsn: str, serve: Serve, sql: Sql
) -> None:
    key = await make_key(tmp_path, "ingest", "supervise", dsn=dsn)
    server = await serve()
    async with aiohttp.ClientSession(server.url, headers=bearer(key)) as session:
        async with (
            session.ws_connect("/ws/supervisor") as one,
            session.ws_connect("/v1/call/stream/c") as two,
        ):
            await two.send_json(PACKET)
            assert await two.receive_json() == {"type": "ack", "frames": 1}
            codes = asyncio.gather(read_to_close(one), read_to_close(two))
            done = await run(tmp_path, "keys", "revoke", key.split("_")[1], dsn=dsn)
            assert done.code == 0
            async with asyncio.timeout(5):  # as docs/security.md promises
                assert list(await codes) == [1008, 1008]
        async with session.post("/v1/call/stream/c", json=PACKET) as response:
            assert response.status == 401
    assert [row["action"] for row in await sql.fetch("select action from audit order by 1")] == [
        "key created",
        "key revoked",
    ]


async def test_tls_is_served_and_its_certificate_renewed(tmp_path: Path, dsn: str) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with Server(tmp_path, "--tls-cert", str(pem), dsn=dsn, settings=QUICK) as server:
        assert server.url.startswith("https://")
        url = f"https://localhost:{server.port}"
        async with (
            aiohttp.ClientSession(url) as session,
            session.post("/v1/call/stream/c", json=PACKET, ssl=context) as response,
        ):
            assert response.status == 202
        other = trustme.CA()
        other.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
        renewed = ssl.create_default_context()
        other.configure_trust(renewed)
        server.signal(1)
        async with aiohttp.ClientSession(url) as session, asyncio.timeout(5):
            while True:
                try:
                    async with session.get("/health", ssl=renewed) as response:
                        assert response.status == 200
                        break
                except aiohttp.ClientConnectorCertificateError:
                    continue


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("--tls-cert", "nothing.pem"), "No such file"),
        (("--tls-key", "nothing.pem"), "no certificate"),
        (("--tls-cert", "garbage.pem"), "--tls-cert"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_told(
    tmp_path: Path, dsn: str, words: tuple[str, ...], phrase: str
) -> None:
    (tmp_path / "garbage.pem").write_text("nonsense")
    done = await run(tmp_path, "serve", "--port", "0", *words, dsn=dsn, settings=QUICK)
    assert (done.code, done.out) == (1, "")
    assert phrase in done.error
    assert "Traceback" not in done.error


async def test_purging_is_done_and_written_into_the_audit(tmp_path: Path, dsn: str, sql: Sql) -> None:
    await run(tmp_path, "keys", "list", dsn=dsn)  # brings the database up to date
    ended = "insert into calls (call_id, state, finished_at) values ($1, 'ARCHIVED', now() - $2::interval)"
    for call_id, days in (("old", 91), ("young", 89)):
        await sql.execute(ended, call_id, timedelta(days=days))
    done = await run(tmp_path, "purge", "--older-than", "90d", dsn=dsn)
    assert (done.code, done.out) == (0, "calls purged: 1\n"), done
    assert [row["call_id"] for row in await sql.fetch("select call_id from calls")] == ["young"]
    assert await sql.fetchval("select detail->>'calls' from audit where action = 'calls purged'") == "1"
    refused = await run(tmp_path, "purge", dsn=dsn)
    assert (refused.code, refused.out) == (2, "")
