"""NATS with TLS, passwords and permissions, as docs/nats.conf has them, and what is said if they are wrong.

Tried here: passwords, tokens and credentials; permissions that suffice and let nothing else through; a wrong
password, a wrong CA, a server without TLS, files that are none; a plain way that is refused; a NATS server
of three that is killed.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import nats
import pytest

from callactors import cli
from callactors.cluster import NatsOptions, NatsRouter, link
from callactors.doctor.cluster import check_nats, check_version
from callactors.doctor.findings import Level
from callactors.errors import NatsFilesBroken
from callactors.packets import MAX_DATA
from callactors.settings import Settings
from callactors.system import CallSystem
from tests.cluster_scenes import Nats, joined_by, nats_server, needs_nats, until_up
from tests.nats_scenes import PASSWORD, options, secured, write_certificates, write_credentials
from tests.scenes import Sql, packet, running
from tests.storage import until_true

SECRETS = (PASSWORD, quote(PASSWORD, safe=""))


async def check_are_one(first: CallSystem, second: CallSystem) -> None:
    """See a call nobody has, one that is elsewhere, and a poke come through."""
    listening = second.subscribe()
    told = asyncio.ensure_future(anext(listening))
    await first.accept("c", packet(1))
    assert (await second.accept("c", packet(2))).total_received == 2
    assert not second.has("c")
    assert (await told).call_id == "c"
    await listening.aclose()


@needs_nats
async def test_the_permissions_of_the_configuration_suffice(
    dsn: str, sql: Sql, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with secured(tmp_path) as servers:
        nats = options(servers, tmp_path)
        async with joined_by(nats, dsn, "first") as first, joined_by(nats, dsn, "second") as second:
            await check_are_one(first, second)
    assert await sql.fetchval("select epoch from calls") == 1
    assert "trouble" not in caplog.text
    assert not any(secret in caplog.text for secret in SECRETS)


@needs_nats
async def test_nothing_else_is_permitted(tmp_path: Path) -> None:
    refused: asyncio.Queue[str] = asyncio.Queue()

    async def on_error(error: Exception) -> None:
        refused.put_nowait(str(error))

    async with secured(tmp_path) as servers:
        client = await nats.connect(
            f"tls://127.0.0.1:{servers[0].port}",
            user="callactors",
            password=PASSWORD,
            tls=options(servers, tmp_path).make_context(),
            error_cb=on_error,
        )
        for subject in (">", "callactors.>", "callactors.1.log.answer.>", "_INBOX.x", "$SYS.>"):
            await client.subscribe(subject)
            assert "permissions violation for subscription" in await refused.get()
        for subject in ("callactors.1.log.other", "callactors.1.log.call.a.b", "other", "$SYS.REQ.x"):
            await client.publish(subject, b"")
            assert "permissions violation for publish" in await refused.get()
        await client.close()


@needs_nats
async def test_a_batch_of_the_largest_packets_goes_where_its_call_is(
    dsn: str, sql: Sql, tmp_path: Path
) -> None:
    async with secured(tmp_path) as servers:
        nats = options(servers, tmp_path)
        async with joined_by(nats, dsn, "first") as first, joined_by(nats, dsn, "second") as second:
            await first.accept("c", packet(1))
            large = "x" * MAX_DATA
            await second.accept_many("c", [packet(sequence, large) for sequence in range(2, 7)])
            assert first.has("c")
    assert await sql.fetchval("select epoch from calls") == 1


@needs_nats
async def test_a_credentials_file_opens_nats(dsn: str, tmp_path: Path) -> None:
    write_credentials(tmp_path)
    async with nats_server("-c", str(tmp_path / "nats.conf")) as server:
        nats = NatsOptions(servers=[server.url], credentials=tmp_path / "user.creds")
        async with joined_by(nats, dsn, "first") as first, joined_by(nats, dsn, "second") as second:
            await check_are_one(first, second)


@needs_nats
async def test_a_token_opens_nats(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with nats_server("--auth", "t0ken") as server:
        nats = NatsOptions(servers=[server.url.replace("//", "//t0ken@")])
        async with joined_by(nats, dsn, "first") as first, joined_by(nats, dsn, "second") as second:
            await check_are_one(first, second)
    assert "t0ken" not in caplog.text


async def check_is_alone(nats: NatsOptions, dsn: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    """See a server start and serve without NATS, and say why it is without."""
    caplog.set_level(logging.DEBUG)
    async with running(dsn, router=NatsRouter(nats), node="alone") as system:
        assert (await system.accept("c", packet(1))).total_received == 1
        await until_true(lambda: said in caplog.text)
        assert (await system.accept("c", packet(2))).total_received == 2
        assert system.router is not None
        assert not system.router.is_up
    told = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    (line,) = [one for one in told if "NATS" in one]
    assert said in line
    assert not any(secret in caplog.text for secret in SECRETS)


@needs_nats
async def test_a_wrong_password_is_told(dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with secured(tmp_path) as servers:
        nats = options(servers, tmp_path, password=f"not {PASSWORD}")
        await check_is_alone(nats, dsn, "Authorization Violation", caplog)


@needs_nats
async def test_wrong_credentials_are_told(dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_credentials(tmp_path)
    async with nats_server("-c", str(tmp_path / "nats.conf")) as server:
        write_credentials(tmp_path)
        nats = NatsOptions(servers=[server.url], credentials=tmp_path / "user.creds")
        await check_is_alone(nats, dsn, "Authorization Violation", caplog)


@needs_nats
@pytest.mark.parametrize("knows_a_ca", [True, False])
async def test_a_wrong_ca_is_told(
    knows_a_ca: bool, dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_certificates(other)
    async with secured(tmp_path) as servers:
        nats = replace(options(servers, tmp_path), ca=other / "ca.pem" if knows_a_ca else None)
        await check_is_alone(nats, dsn, "certificate verify failed", caplog)


@needs_nats
async def test_a_certificate_that_is_mended_lets_the_server_in(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right = tmp_path / "right"
    right.mkdir()
    write_certificates(right)
    tls = ("--tls", "--tlscert", "server.pem", "--tlskey", "server.key")
    async with secured(tmp_path) as servers:
        nats = options(servers, right)
        async with running(dsn, router=NatsRouter(nats), node="first") as system:
            await until_true(lambda: "certificate verify failed" in caplog.text)
            await servers[0].kill()
            for file in right.iterdir():
                (tmp_path / file.name).write_bytes(file.read_bytes())
            await servers[0].start(*tls)
            await until_up(system)


async def test_a_server_that_says_it_has_no_tls_is_shown_nothing(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.9.10", "auth_required": True, "max_payload": 1_000_000}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        shown.extend(await reader.read())
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        nats = NatsOptions(servers=[f"tls://callactors:{SECRETS[1]}@127.0.0.1:{port}"])
        await check_is_alone(nats, dsn, "secure connection not available", caplog)
    assert shown == b""


def test_files_that_are_none_are_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("none")
    for wrong in (tmp_path / "none", tmp_path / "missing"):
        for files in ({"ca": wrong}, {"credentials": wrong}):
            with pytest.raises(NatsFilesBroken, match="check --nats-credentials and --nats-ca"):
                NatsRouter(NatsOptions(servers=["nats://127.0.0.1"], **files))


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("nats://far.example:4222", True),
        ("nats://127.0.0.1:4222,nats://user:password@10.0.0.9:4222", True),
        ("nats://127.0.0.1:4222,nats://[::1]:4222,nats://localhost", False),
        ("tls://far.example:4222", False),
        ("tls://far.example:4222,nats://10.0.0.9:4222", False),
    ],
)
def test_packets_go_nowhere_for_all_to_read(
    url: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    monkeypatch.setenv("CALLACTORS_DATABASE_PATIENCE", "0")
    asked = ["serve", "--port", "0", "--nats", url]
    assert cli.main(asked) == (2 if is_refused else 1)
    told = capsys.readouterr().err
    assert ("--nats-plaintext" in told) is is_refused
    assert "password" not in told
    assert cli.main([*asked, "--nats-plaintext"]) == 1, "it comes to the database, which is not there"


@needs_nats
async def test_one_nats_server_of_three_is_killed_and_no_call_moves(
    dsn: str, sql: Sql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_PATIENCE", 30.0)  # however slow the machine is
    async with secured(tmp_path, size=3) as servers:
        first, *others = servers
        async with (
            joined_by(options([first], tmp_path), dsn, "owner") as owner,
            joined_by(options(others, tmp_path), dsn, "asking") as asking,
        ):
            await owner.accept("c", packet(1))
            await asking.accept("c", packet(2))
            port = connected_port(asking)
            await next(one for one in others if one.port == port).kill()
            accepted = await asyncio.gather(*(asking.accept("c", packet(n)) for n in range(3, 20)))
            assert [one.total_received for one in accepted] == [*range(3, 20)]
            assert not asking.has("c")
            assert connected_port(asking) != port
    assert await sql.fetchval("select epoch from calls") == 1


def connected_port(system: CallSystem) -> int | None:
    """The port of the NATS server that *system* is connected to."""
    assert isinstance(system.router, NatsRouter)
    client = system.router._link._client
    assert client is not None
    return client.connected_url.port if client.connected_url else None


def settings(servers: Sequence[Nats], directory: Path, password: str = PASSWORD) -> Settings:
    """As `options` has it, from variables."""
    told = options(servers, directory, password)
    return Settings(nats=",".join(told.servers), nats_ca=told.ca)


@needs_nats
async def test_the_doctor_looks_at_each_server(tmp_path: Path) -> None:
    async with secured(tmp_path, size=2) as servers:
        await servers[0].kill()
        away, there = await check_nats(settings(servers, tmp_path))
    assert (away.level, there.level) == (Level.ERROR, Level.OK)
    assert away.text.startswith(f"127.0.0.1:{servers[0].port}: ")
    assert "Connect call failed" in away.text
    assert there.text.startswith(f"127.0.0.1:{servers[1].port} has version ")


@needs_nats
async def test_the_doctor_says_what_keeps_nats_away(tmp_path: Path) -> None:
    async with secured(tmp_path) as servers:
        (wrong,) = await check_nats(settings(servers, tmp_path, f"not {PASSWORD}"))
        assert "Authorization Violation" in wrong.text
        assert not any(secret in str(wrong) for secret in SECRETS)
        unknown = settings(servers, tmp_path).model_copy(update={"nats_ca": None})
        (refused,) = await check_nats(unknown)
        assert "certificate verify failed" in refused.text
    (tmp_path / "ca.pem").write_text("none")
    (broken,) = await check_nats(settings(servers, tmp_path))
    assert "check --nats-credentials and --nats-ca" in broken.text


@needs_nats
async def test_the_doctor_finds_that_nothing_comes_back(tmp_path: Path) -> None:
    (tmp_path / "nats.conf").write_text(
        'authorization { users: [{ user: u, password: p, permissions { publish: ["x"] } }] }'
    )
    async with nats_server("-c", str(tmp_path / "nats.conf")) as server:
        (told,) = await check_nats(Settings(nats=server.url.replace("//", "//u:p@")))
    assert (told.level, "permissions violation for publish" in told.text) == (Level.ERROR, True)


async def test_the_doctor_sends_nothing_where_a_server_would_not() -> None:
    far = Settings(nats="nats://192.0.2.1:4222")
    (told,) = await check_nats(far)
    assert (told.level, "--nats-plaintext" in told.text) == (Level.ERROR, True)


def test_an_old_nats_is_told() -> None:
    assert check_version("nats-1:4222", (2, 8)).level is Level.WARNING
    assert check_version("nats-1:4222", (2, 10)).level is Level.OK
