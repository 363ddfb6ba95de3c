"""A server as vendors meet it: simulated calls with trouble, a crash among them, and a replay."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from callactors.simulate.dialects import DIALECTS
from tests.acceptance.fixtures import Serve
from tests.acceptance.history import Sql
from tests.acceptance.server import Finished, Server, run
from tests.acceptance.waiting import eventually
from tests.vendor_fixtures import PAYLOAD, call_of

TROUBLE = ("--loss", "0.05", "--reorder", "0.05", "--duplicate", "0.05", "--drop", "0.3", "--seed", "4")
ENDED = "select count(*) from calls where state in ('ARCHIVED', 'FAILED')"


async def simulate(place: Path, server: Server, *words: str) -> Finished:
    options = ("--calls", "3", "--seconds", "1", "--ramp", "0.2", "--patience", "15")
    return await run(place, "simulate", *options, *words, server.url)


async def test_every_vendors_calls_are_taken_as_they_are_sent(tmp_path: Path, serve: Serve, sql: Sql) -> None:
    server = await serve(drop_timeout=0.5)  # behind which the calls end whose connections are cut
    words = [(*("--vendor", name), *(TROUBLE if d.is_numbered else ())) for name, d in DIALECTS.items()]
    for done in await asyncio.gather(*(simulate(tmp_path, server, *chosen) for chosen in words)):
        assert done.code == 0, done

    async def have_ended() -> bool:
        return bool(await sql.fetchval(ENDED) == 3 * len(DIALECTS))

    await eventually(have_ended)
    reasons = {record["end_reason"] for record in await sql.fetch("select end_reason from calls")}
    assert reasons == {"stream_stopped", "stream_dropped"}


async def test_a_crash_among_streams_drops_them_and_their_calls_end(
    tmp_path: Path, serve: Serve, sql: Sql
) -> None:
    server = await serve(drop_timeout=0.5)
    sending = asyncio.create_task(simulate(tmp_path, server, "--seconds", "30", "--patience", "0"))

    async def are_live() -> bool:
        return bool(await sql.fetchval("select count(*) = 3 from calls where streaming and packets > 0"))

    await eventually(are_live)
    await server.restart()
    done = await sending
    assert done.code == 1, "the client has seen it"

    async def have_ended() -> bool:
        return bool(await sql.fetchval(ENDED) == 3)

    await eventually(have_ended)
    assert [record[0] for record in await sql.fetch("select end_reason from calls")] == ["stream_dropped"] * 3
    assert not await sql.fetchval("select bool_or(streaming) from calls")


async def test_a_recorded_session_is_played_to_another_server(tmp_path: Path, serve: Serve, sql: Sql) -> None:
    server = await serve()
    file = tmp_path / "capture.jsonl"
    assert (await simulate(tmp_path, server, "--record", str(file))).code == 0
    row = "(call_id, stream, sequence, kind, data)::text"
    packets = f"select array_agg({row} order by {row}) from packets"
    first = await sql.fetchval(f"{packets} join calls using (call_no)")
    await sql.execute("truncate packets, call_events, calls, deliveries")
    await server.restart()
    done = await run(tmp_path, "replay", "--speed", "max", str(file), server.url)
    assert done.code == 0, done

    async def have_ended() -> bool:
        return bool(await sql.fetchval(ENDED) == 3)

    await eventually(have_ended)
    assert await sql.fetchval(f"{packets} join calls using (call_no)") == first


@pytest.mark.parametrize("path", ["/v1/media", "/v1/media/binary"])
async def test_neither_audio_nor_numbers_are_in_the_log(serve: Serve, sql: Sql, path: str) -> None:
    server = await serve()
    vendors = ("twilio", "telnyx", "plivo", "exotel") if path == "/v1/media" else ("jambonz", "vonage")
    async with aiohttp.ClientSession(server.url) as session:
        for vendor in vendors:
            async with session.ws_connect(path) as ws:
                wrong = json.dumps({"event": "media", "media": {"payload": PAYLOAD}, "from": "+15550100"})
                wrongs = (wrong, wrong) if path == "/v1/media" else ()
                for message in (*call_of(vendor)[:3], *wrongs, *call_of(vendor)[3:]):
                    await (ws.send_bytes(message) if isinstance(message, bytes) else ws.send_str(message))
        form = {"CallSid": "c", "CallStatus": "completed", "From": "+15550100", "To": "+15550101"}
        async with session.post("/v1/hooks/twilio", data=form) as answer:
            assert answer.status == 204

    async def have_ended() -> bool:
        return bool(await sql.fetchval(ENDED) == len(vendors) + 1)

    await eventually(have_ended)
    assert "has ended" in server.log
    for secret in (PAYLOAD[:40], "55501", "\\x00", "AAAAAAAA"):
        assert secret not in server.log
    packets = await sql.fetch("select data from packets")
    assert not [record for record in packets if PAYLOAD in record["data"]]
