"""The journal while PostgreSQL or the way to it fails: what was told as stored is stored, and once."""

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callactors.facts import Change, Event, EventKind, Facts, Row
from callactors.sequence import StreamSequence
from callactors.states import CallState
from callactors.store import connection
from callactors.store.embedded import EmbeddedPostgres
from callactors.store.migrations import migrate
from callactors.store.writer import Verdict, Writer
from tests.proxy import Proxy, Wire, proxy_to
from tests.storage import (
    ME,
    WAITING,
    Sql,
    Ticket,
    claim,
    journal_of,
    locked,
    new,
    packet,
    session,
    stored,
    submit,
    unstorable,
    until,
    until_true,
    until_waiting,
    verdicts,
    writer_of,
)

STORED, REFUSED, RETURNED = Verdict.STORED, Verdict.REFUSED, Verdict.RETURNED


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    async with proxy_to(dsn) as proxy:
        yield proxy


def changes() -> list[Change]:
    """A packet and two transitions."""
    streams = {"": StreamSequence(2, ((0, 0),))}
    path = (CallState.IN_PROGRESS, CallState.COMPLETED, CallState.PROCESSING_AI)
    moves = []
    for version in (2, 3):
        facts = Facts(state=path[version - 1], version=version)
        event = Event(version, EventKind.TRANSITION, path[version - 2], path[version - 1], 0, {})
        moves.append(Change(row=Row(facts, streams, 1, 0, 0), events=(event,)))
    return [Change((packet(1),), row=Row(Facts(), streams, 1, 0, 0)), *moves]


async def assert_stored_once(sql: Sql) -> None:
    """`changes` of the call `c` were made, once."""
    assert await stored(sql) == [("c", 1, "x")]
    assert await sql.fetchval("select array_agg(version order by event_id) from call_events") == [1, 2, 3]
    assert tuple(await sql.fetchrow("select state, version, packets from calls") or ()) == (
        "PROCESSING_AI",
        3,
        1,
    )


async def test_flush_whose_connection_is_killed_is_made_again(dsn: str, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(dsn) as journal:
        async with locked(dsn, "c"):
            tickets = submit(writer_of(journal, claimed), *changes())
            await until_waiting(sql)
            killed = await sql.fetchval(f"select pid {WAITING}")
            await sql.execute("select pg_terminate_backend($1)", killed)
            await until(sql, f"count(*) = 1 {WAITING} and pid <> $1", killed)
        assert await verdicts(tickets) == [STORED] * 3
    await assert_stored_once(sql)


async def test_flush_whose_reply_is_lost_is_stored_once_and_told_as_stored(proxy: Proxy, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(proxy.dsn) as journal:
        writer = writer_of(journal, claimed)
        assert await verdicts(submit(writer, Change())) == [STORED], "it is connected"
        proxy.wire = Wire.DEAF
        tickets = submit(writer, *changes())
        await until(sql, "max(version) = 3 from call_events")
        await proxy.dropped.wait()
        assert not any(ticket.verdict.done() for ticket in tickets)
        proxy.wire = Wire.PASS
        proxy.cut()
        assert await verdicts(tickets) == [STORED] * 3
    await assert_stored_once(sql)


async def test_flush_that_was_cut_before_it_arrived_is_made_again(proxy: Proxy, sql: Sql) -> None:
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(proxy.dsn) as journal:
        writer = writer_of(journal, claimed)
        await verdicts(submit(writer, Change()))
        proxy.wire = Wire.BLACK_HOLE
        tickets = submit(writer, *changes())
        await proxy.dropped.wait()
        proxy.wire = Wire.PASS
        proxy.cut()
        assert await verdicts(tickets) == [STORED] * 3
    await assert_stored_once(sql)


@pytest.mark.parametrize("wire", [Wire.DEAF, Wire.BLACK_HOLE])
async def test_flush_into_silence_is_given_up_in_time_and_made_again(
    proxy: Proxy, sql: Sql, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "COMMAND_TIMEOUT", 0.2)
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.2)
    [claimed] = await claim(sql, ME, "c")
    async with journal_of(proxy.dsn) as journal:
        writer = writer_of(journal, claimed)
        await verdicts(submit(writer, Change()))
        proxy.wire = wire
        tickets = submit(writer, *changes())
        await proxy.dropped.wait()
        before = set(proxy.ends)
        await until_true(lambda: not proxy.ends & before)
        proxy.wire = Wire.PASS
        assert await verdicts(tickets) == [STORED] * 3
    await assert_stored_once(sql)


async def test_refused_database_is_asked_until_it_answers(
    proxy: Proxy, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    [claimed] = await claim(sql, ME, "c")
    proxy.refuse()
    async with journal_of(proxy.dsn) as journal:
        tickets = submit(writer_of(journal, claimed), *changes())
        await until_true(lambda: "lost the database" in caplog.text)
        await proxy.listen()
        assert await verdicts(tickets) == [STORED] * 3
    await assert_stored_once(sql)


async def test_journal_with_nothing_left_but_a_failed_writer_does_not_need_the_database(
    proxy: Proxy, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    [claimed] = await claim(sql, ME, "c")

    class Last(Ticket):
        def settle(self, verdict: Verdict) -> None:
            super().settle(verdict)
            proxy.refuse()

    async with journal_of(proxy.dsn) as journal:
        writer = writer_of(journal, claimed)
        async with locked(proxy.target, "c"):
            tickets = submit(writer, new(1), Change((unstorable(2),)))
            await until_waiting(sql)
            last = Last(new(3))
            writer.submit(last)
        assert await verdicts([*tickets, last]) == [STORED, REFUSED, RETURNED]
        await journal.drain(timeout=1)
    assert "stopping with" not in caplog.text


@pytest.fixture
async def postgres_of_its_own() -> AsyncIterator[EmbeddedPostgres]:
    """A durable server; pytest's tmp_path is closed to the user that PostgreSQL runs as."""
    place = Path(tempfile.mkdtemp(prefix="ca-"))
    place.chmod(0o711)
    postgres = EmbeddedPostgres(data_dir=place / "data")
    try:
        await migrate(await postgres.start())
        yield postgres
    finally:
        await postgres.stop()
        shutil.rmtree(place)


async def test_everything_told_as_stored_is_stored_once_after_restart_and_crash_under_load(
    postgres_of_its_own: EmbeddedPostgres,
) -> None:
    postgres = postgres_of_its_own
    told: list[tuple[str, int, str]] = []
    is_over = asyncio.Event()

    async def feed(writer: Writer) -> None:
        for sequence in itertools.count(1):
            assert await verdicts(submit(writer, new(sequence))) == [STORED]
            told.append((writer.call_id, sequence, "x"))
            if is_over.is_set():
                return

    async def until_more_are_told() -> None:
        enough = len(told) + 200
        await until_true(lambda: len(told) >= enough)

    async with session(postgres.dsn) as sql:
        claimed = await claim(sql, ME, *(f"c{i}" for i in range(10)))
    async with proxy_to(postgres.dsn) as proxy, journal_of(proxy.dsn) as journal:
        feeding = [asyncio.create_task(feed(writer_of(journal, call))) for call in claimed]
        for signum in (signal.SIGINT, signal.SIGKILL):
            await until_more_are_told()
            assert postgres.pid is not None
            os.kill(postgres.pid, signum)
            await postgres.stop()
            proxy.target = await postgres.start()
        await until_more_are_told()
        is_over.set()
        await asyncio.gather(*feeding)
        async with session(postgres.dsn) as sql:
            assert await stored(sql) == sorted(told)
