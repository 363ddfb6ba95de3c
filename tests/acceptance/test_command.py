"""The command line: whatever is wrong, one clear sentence and an exit code, and never a traceback."""

import asyncio
import json
import re
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientSession

from tests.acceptance.fixtures import Connect, Serve
from tests.acceptance.history import Sql
from tests.acceptance.server import QUICK, Finished, Server, run
from tests.acceptance.waiting import eventually

NOWHERE: Final = "postgresql://callactors@127.0.0.1:1/callactors"


def check_refusal(done: Finished, code: int, *phrases: str) -> None:
    """Check that *done* ended with one sentence on stderr that says all *phrases*, and nothing on stdout."""
    assert (done.code, done.out) == (code, ""), done
    sentences = [line for line in done.error.splitlines() if line.startswith("callactors: ")]
    assert len(sentences) == 1, done.error
    assert all(phrase.lower() in sentences[0].lower() for phrase in phrases), sentences
    assert "secret" not in done.error
    assert "Traceback" not in done.error
    logged = [line for line in done.error.splitlines() if line not in sentences]
    assert all(re.match(r"\d{4}-\d\d-\d\d .* (INFO|WARNING) ", line) for line in logged), done.error


async def refuse(
    place: Path, code: int, *phrases: str, dsn: str | None = None, **settings: str | float
) -> None:
    done = await run(place, "serve", "--port", "0", dsn=dsn, settings={"database_patience": 0, **settings})
    check_refusal(done, code, *phrases)


async def test_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await run(tmp_path, "serve", "--ephemeral", "--port", str(port))
    check_refusal(done, 1, f"127.0.0.1:{port}", "--port")
    assert len(done.error.splitlines()) == 1


@asynccontextmanager
async def waits(directory: Path, **settings: str) -> AsyncIterator[Server]:
    """A server that waits for a database which does not come."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    server = Server(directory, dsn=NOWHERE, port=port, settings={**QUICK, **settings})
    await server.spawn()
    try:
        await wait_for_log(server, "waiting up to 60 s")
        yield server
    finally:
        if server.is_running:
            await server.kill()


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Server]:
    async with waits(tmp_path) as server:
        yield server


async def test_who_comes_before_a_server_serves_waits_but_goes_to_another_one_of_a_cluster(
    tmp_path: Path, waiting: Server
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", waiting.port)
    writer.close()
    directory = tmp_path / "cluster"
    directory.mkdir()
    async with waits(directory, nats="nats://127.0.0.1:1") as one:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", one.port)


async def test_port_of_a_server_that_still_waits_for_its_database_is_taken(
    tmp_path: Path, waiting: Server
) -> None:
    port = str(waiting.port)
    done = await run(tmp_path, "serve", "--port", port, dsn=NOWHERE, settings={"database_patience": 0})
    check_refusal(done, 1, f"127.0.0.1:{port}", "--port")


async def test_wrong_settings_are_told_and_end_with_2(tmp_path: Path) -> None:
    await asyncio.gather(
        refuse(tmp_path, 2, "flaky_failure_rate", flaky_failure_rate=2),
        refuse(tmp_path, 2, "0.0.0.0", "--insecure", host="0.0.0.0"),
    )
    check_refusal(await run(tmp_path, "serve", settings={"port": "abc"}), 2, "port", "integer")
    check_refusal(await run(tmp_path, "serve", "--host", "0.0.0.0"), 2, "0.0.0.0", "--insecure")


async def test_wrong_database_url_is_told(tmp_path: Path, dsn: str) -> None:
    name = urlsplit(dsn).path
    cases = {
        "postgresql://me:secret@127.0.0.1:1/x": "127.0.0.1",
        "postgresql://me:secret@127.0.0.1:port/x": "",
        "mysql://me:secret@127.0.0.1/x": "",
        dsn.replace(name, "/nonesuch"): "nonesuch",
        dsn.replace("callactors@", "stranger:secret@"): "stranger",
        "postgresql://me:secret@/x?host=/nonexistent": "",
    }
    told = ("cannot use the database", "DATABASE_URL")
    await asyncio.gather(*(refuse(tmp_path, 1, *told, phrase, dsn=url) for url, phrase in cases.items()))


async def test_database_without_durability_is_refused(tmp_path: Path, dsn: str) -> None:
    await refuse(tmp_path, 1, "fsync = off", "--unsafe-durability", dsn=dsn)


async def test_database_that_is_newer_than_the_code_is_refused(tmp_path: Path, dsn: str, sql: Sql) -> None:
    await sql.execute(
        "insert into schema_migrations (number, name, sha256, oldest_code)"
        " values (9000, '9000_future.sql', 'x', 9000)"
    )
    await refuse(tmp_path, 1, "9000_future.sql", "newer", dsn=dsn, unsafe_durability=1)


async def test_newer_database_that_fits_this_code_is_served(serve: Serve, sql: Sql) -> None:
    await sql.execute(
        "insert into schema_migrations (number, name, sha256, oldest_code)"
        " values (9000, '9000_future.sql', 'x', 1)"
    )
    await serve()


async def test_edited_migration_is_refused(tmp_path: Path, dsn: str, sql: Sql) -> None:
    await sql.execute("update schema_migrations set sha256 = 'x' where number = 1")
    await refuse(tmp_path, 1, "0001_calls.sql", "restore", dsn=dsn, unsafe_durability=1)


async def test_second_server_on_the_same_data_dir_is_refused(data_dir: Path, tmp_path: Path) -> None:
    arguments = ("--data-dir", str(data_dir))
    async with Server(tmp_path, *arguments, settings={}) as first:
        done = await run(tmp_path, "serve", "--port", "0", *arguments)
        check_refusal(done, 1, str(data_dir), "in use", "--data-dir")
        assert first.is_running


async def test_server_waits_for_a_database_that_is_not_up_yet(
    tmp_path: Path, dsn: str, data_dir: Path
) -> None:
    directory = parse_qs(urlsplit(dsn).query)["host"][0]
    link = data_dir.parent / "socket"
    later = dsn.replace(dsn.partition("host=")[2].partition("&")[0], str(link))
    server = Server(tmp_path, dsn=later)
    starting = asyncio.create_task(server.start())
    await wait_for_log(server, "waiting up to 60 s for the database")
    assert not starting.done()
    link.symlink_to(directory)
    await starting
    assert await server.terminate() == 0
    server.check_log()
    assert server.log.count("waiting up to") == 1


async def test_stop_while_waiting_for_the_database_is_quick(waiting: Server) -> None:
    asked_at = asyncio.get_running_loop().time()
    assert await waiting.terminate() == 0
    assert asyncio.get_running_loop().time() - asked_at < 3
    waiting.check_log()


async def test_server_runs_on_uvloop_if_asked_to(tmp_path: Path, dsn: str) -> None:
    async with Server(tmp_path, "--uvloop", dsn=dsn) as server:
        libraries = Path(f"/proc/{server.pid}/maps")
        if libraries.exists():
            assert "uvloop" in libraries.read_text()
        async with ClientSession() as client, client.get(f"{server.url}/ready") as answer:
            assert answer.status == 200


async def test_uvloop_that_is_not_installed_is_told(tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ModuleNotFoundError")
    await refuse(tmp_path, 1, "uvloop is not installed", "callactors[uvloop]", uvloop=1)


async def test_the_log_is_json_with_the_call_where_nobody_looks_at_it(serve: Serve, connect: Connect) -> None:
    server = await serve(log_format="auto")
    client = connect(server)
    for sequence in (1, 5):
        await client.deliver("c", sequence)
    await client.finish("c")
    await wait_for_log(server, "ARCHIVED")
    told = [json.loads(line) for line in server.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in told)
    of_call = [line["message"] for line in told if line.get("call_id") == "c"]
    assert of_call == [line["message"] for line in told if "call c" in line["message"]]
    assert [text.removeprefix("call c: ") for text in of_call] == [
        "gap in stream '', 2-4 missing before 5",
        "IN_PROGRESS -> COMPLETED",
        "COMPLETED -> PROCESSING_AI",
        "PROCESSING_AI -> ARCHIVED",
    ]


async def test_the_doctor_looks_at_a_server_that_runs(data_dir: Path, tmp_path: Path) -> None:
    arguments = ("--data-dir", str(data_dir))
    async with Server(tmp_path, *arguments, settings={"node": "here"}):
        done = await run(tmp_path, "doctor", *arguments)
    assert (done.code, done.error) == (0, ""), done
    assert "ok       servers      alive: here" in done.out.splitlines()
    assert "errors: 0" in done.out.splitlines()[-1]


async def test_the_doctor_ends_with_2_if_a_server_could_not_start(tmp_path: Path) -> None:
    done = await run(tmp_path, "doctor", "--json", dsn=NOWHERE)
    assert (done.code, done.error) == (2, ""), done
    assert json.loads(done.out)["errors"] == 1


async def wait_for_log(server: Server, text: str) -> None:
    async def is_logged() -> bool:
        return text in server.log

    await eventually(is_logged)


async def test_help_is_told(tmp_path: Path) -> None:
    words: list[list[str]] = [["--help"], ["serve", "--help"], []]
    top, serve, nothing = await asyncio.gather(*(run(tmp_path, *some) for some in words))
    assert (top.code, serve.code, nothing.code) == (0, 0, 2)
    assert "serve" in top.out
    for flag in ("--host", "--port", "--data-dir", "--ephemeral", "--insecure", "DATABASE_URL"):
        assert flag in serve.out


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed lines are for curl")
async def test_printed_lines_work_as_printed(tmp_path: Path, dsn: str) -> None:
    async with Server(tmp_path, dsn=dsn, settings={**QUICK, "flaky_latency_max": 0}) as server:
        await server.wait_for_print("Ctrl-C")
        lines = re.findall(r"^  (curl .*)$", server.printed, re.MULTILINE)
        sent, completed, told = [await run_line(line) for line in lines]
        assert (sent["status"], sent["total_received"], completed["status"]) == ("accepted", 1, "accepted")
        assert (told["call_id"], told["packets"]) == ("demo-1", 1)
        assert f"ws{server.url[4:]}/ws/supervisor" in server.printed


async def run_line(line: str) -> dict[str, Any]:
    """Run a line for curl in a shell, and return the body it shows behind the headers."""
    process = await asyncio.create_subprocess_shell(line, stdout=PIPE, stderr=DEVNULL)
    out, _ = await process.communicate()
    assert process.returncode == 0, line
    head, _, content = out.decode().partition("\r\n\r\n")
    assert head.split()[1] in ("200", "202"), out
    body: dict[str, Any] = json.loads(content)
    return body
