"""Vendors' streams over WebSockets, from their start to their end, whichever way that comes.

Tried: every vendor, two streams, a stop, an orderly close, a lost connection, one that comes back too early.
"""

import json
import logging
import socket
from itertools import product
from typing import Any

import pytest
from aiohttp import WSMsgType
from pytest_aiohttp.plugin import AiohttpClient

from callactors.web import media as module
from callactors.web.vendor_access import VendorRules
from tests.media_scenes import (
    BINARY,
    MEDIA,
    Client,
    Start,
    counted,
    cut,
    end_of,
    media,
    say,
    start,
    start_with,
    stop,
    stored,
    streaming,
    told,
    transport_of,
    until_begun,
    until_logged,
    until_stored,
)
from tests.scenes import until, until_state
from tests.storage import Sql
from tests.vendor_fixtures import CALL_IDS, EVERY, JSON_CALLS, PAYLOAD, TAKEN_FOR, WITH_STOP, call_of

WITHOUT_STOP = [vendor for vendor in EVERY if vendor not in WITH_STOP]
KINDS = {
    **dict.fromkeys(WITH_STOP, ("start", None, None, "dtmf", "mark", "stop")),
    **dict.fromkeys(WITHOUT_STOP, ("start", None, None, "dtmf")),
    "plivo": ("start", None, None, "dtmf", "mark"),
    "mod_audio_fork": ("start", None, None, "dtmf", "text"),
}
PACKETS = "select sequence, kind from packets join calls using (call_no) where call_id = $1 order by 1"
DROPPED = "select count(*) from call_events where call_id = $1 and detail->>'phase' = 'dropped'"
OTHERS = ("plivo", "jambonz", "twilio")


@pytest.fixture
def begin(dsn: str, aiohttp_client: AiohttpClient) -> Start:
    return start_with(dsn, aiohttp_client)


@pytest.fixture
async def client(begin: Start) -> Client:
    return await begin()


def path_of(vendor: str) -> str:
    return MEDIA if vendor in JSON_CALLS else BINARY


def unended(vendor: str, call_id: str) -> list[str | bytes]:
    """A call with another id, up to its stop."""
    messages = call_of(vendor)[: -1 if vendor in WITH_STOP else None]
    return [m.replace(CALL_IDS[vendor], call_id) if isinstance(m, str) else m for m in messages]


async def metadata_of(sql: Sql, call_id: str) -> dict[str, Any]:
    text = await sql.fetchval("select metadata from calls where call_id = $1", call_id)
    return dict(json.loads(text))


async def test_a_stream_is_a_call_from_its_start_to_its_end(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    for vendor in EVERY:
        call_id = CALL_IDS[vendor]
        async with streaming(client, *call_of(vendor), path=path_of(vendor)) as ws:
            if vendor in WITH_STOP:
                await until_state(sql, call_id, "ARCHIVED")
                assert not ws.closed
        await until_state(sql, call_id, "ARCHIVED")
        assert await end_of(sql, call_id) == "stream_stopped"
        packets = await sql.fetch(PACKETS, call_id)
        assert [record["sequence"] for record in packets] == [*range(1, len(KINDS[vendor]) + 1)]
        assert tuple(record["kind"] for record in packets) == KINDS[vendor]
        metadata = await metadata_of(sql, call_id)
        assert metadata["vendor"] == TAKEN_FOR.get(vendor, vendor)
        assert "sales" in str(metadata)
        assert await told(sql, call_id) == [
            *("IN_PROGRESS", "started", "stopped", "COMPLETED"),
            *("PROCESSING_AI", "started", "succeeded", "ARCHIVED"),
        ]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_vendor_that_is_named_needs_not_be_recognised(client: Client, sql: Sql) -> None:
    for vendor in ("fonoster", "exotel"):
        async with streaming(client, *call_of(vendor), path=f"{MEDIA}?vendor={vendor}"):
            await until_state(sql, CALL_IDS[vendor], "ARCHIVED")
        assert (await metadata_of(sql, CALL_IDS[vendor]))["vendor"] == vendor


async def test_a_server_of_one_vendor_names_it_for_all(begin: Start, sql: Sql) -> None:
    client = await begin(vendors=VendorRules(media_vendor="fonoster"))
    async with streaming(client, *call_of("fonoster")):
        await until_state(sql, CALL_IDS["fonoster"], "ARCHIVED")
    assert (await metadata_of(sql, CALL_IDS["fonoster"]))["vendor"] == "fonoster"


async def test_a_call_that_the_url_names_is_that_one(client: Client, sql: Sql) -> None:
    messages = call_of("asterisk")
    async with streaming(client, *messages, path=f"{BINARY}?call_id=callers", protocols=("media",)) as ws:
        assert ws.protocol == "media"
    await until_state(sql, "callers", "ARCHIVED")


async def test_the_last_of_two_streams_ends_the_call(client: Client, sql: Sql) -> None:
    async with streaming(client, start(), *media(2)) as one, streaming(client, start(stream="t")) as two:
        await until(sql, "select count(*) from call_events where kind = 'stream'", 2)
        await say(one, stop(3))
        await until(sql, "select count(*) from call_events where detail->>'phase' = 'stopped'", 1)
        assert await sql.fetchval("select state from calls") == "IN_PROGRESS"
        await say(two, *media(2, stream="t"), stop(3, stream="t"))
        await until_state(sql, "c", "ARCHIVED")
    assert await end_of(sql) == "stream_stopped"
    assert await sql.fetchval("select count(*) from packets") == 6


async def test_exotels_stop_leaves_the_call_open_that_goes_on(client: Client, sql: Sql) -> None:
    *messages, last = (json.loads(message) for message in call_of("exotel"))
    last["stop"]["reason"] = "stopped"
    async with streaming(client, *messages, last):
        await until(sql, "select count(*) from call_events where detail->>'phase' = 'stopped'", 1)
    assert await sql.fetchval("select state from calls") == "IN_PROGRESS"


async def test_a_stream_that_comes_back_goes_on(client: Client, sql: Sql) -> None:
    async with streaming(client, start(), *media(2)) as ws:
        await until_stored(sql, 2)
        cut(ws)
        await until(sql, DROPPED, 1, "c")
    async with streaming(client, start(), *media(3), stop(4)):
        await until_state(sql, "c", "ARCHIVED")
    assert (await told(sql))[1:5] == ["started", "dropped", "resumed", "stopped"]
    assert await stored(sql) == [1, 2, 3, 4]


CLOSES = {"1000": b"\x03\xe8", "1001": b"\x03\xe9", "none": b""}


async def test_an_orderly_close_ends_a_stream_whose_vendor_sends_no_stop_and_no_other(
    begin: Start, sql: Sql
) -> None:
    client = await begin(drop_timeout=0.1)
    for vendor, name, is_gone in product(OTHERS, CLOSES, (False, True)):
        messages = unended(vendor, f"{vendor}-{name}-{is_gone}")
        async with streaming(client, *messages, path=path_of(vendor)) as ws:
            await ws._writer.send_frame(CLOSES[name], WSMsgType.CLOSE)
            if is_gone:  # the server's own close cannot be sent any more
                transport_of(ws).close()
    await until(sql, "select count(*) from calls where state = 'ARCHIVED'", 18)
    for call_id, reason in await sql.fetch("select call_id, end_reason from calls"):
        assert reason == f"stream_{'dropped' if call_id.startswith('twilio') else 'stopped'}", call_id


async def test_a_lost_connection_is_waited_for(begin: Start, sql: Sql) -> None:
    client = await begin(drop_timeout=1.0)
    for vendor, how in product(OTHERS, ("abort", "close", "error", "shutdown")):
        call_id = f"{vendor}-{how}"
        async with streaming(client, *unended(vendor, call_id), path=path_of(vendor)) as ws:
            await until_begun(sql, call_id)
            if how == "error":
                await ws.close(code=1011)
            elif how == "shutdown":
                ws.get_extra_info("socket").shutdown(socket.SHUT_WR)
            else:
                getattr(transport_of(ws), how)()
            await until(sql, DROPPED, 1, call_id)
    assert await sql.fetchval("select count(*) from calls where end_reason is null") == 12
    await until(sql, "select count(*) from calls where end_reason = 'stream_dropped'", 12)


async def test_a_handler_that_is_cancelled_counts_as_a_lost_connection(begin: Start, sql: Sql) -> None:
    client = await begin(drop_timeout=0.1)
    client.server.runner.server.handler_cancellation = True  # type: ignore[union-attr]
    async with streaming(client, start(), *media(2)) as ws:
        await until_stored(sql, 2)
        cut(ws)
        await until_state(sql, "c", "ARCHIVED")
    assert await end_of(sql) == "stream_dropped"


@pytest.mark.parametrize("vendor", ["twilio", "plivo"])
async def test_a_stream_on_a_new_connection_outlives_the_old_one(
    client: Client, sql: Sql, vendor: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call_id, messages = CALL_IDS[vendor], call_of(vendor)
    first = messages[: 1 if vendor == "plivo" else 2]
    async with streaming(client, *first) as old:
        await until_stored(sql, 1)
        async with streaming(client, *messages[: 4 if vendor == "plivo" else 5]) as new:
            await until_stored(sql, 4)
            await old.close()
            await until_logged(caplog, f"call {call_id}: a media stream of {vendor} has ended")
            assert await told(sql, call_id) == ["IN_PROGRESS", "started"]
            await say(new, *messages[4 if vendor == "plivo" else 5 :])
            await new.close()
        await until_state(sql, call_id, "ARCHIVED")
    assert await end_of(sql, call_id) == "stream_stopped"


@pytest.mark.parametrize("is_kept", [False, True])
async def test_audio_is_stored_only_if_that_is_asked_for(
    begin: Start, sql: Sql, is_kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = await begin(vendors=VendorRules(store_media=is_kept))
    for vendor in ("twilio", "jambonz"):
        async with streaming(client, *call_of(vendor), path=path_of(vendor)):
            pass
        await until_state(sql, CALL_IDS[vendor], "ARCHIVED")
    rows = "select count(*) from packets where kind is null and position($1 in data) > 0"
    assert await sql.fetchval(rows, PAYLOAD) == (4 if is_kept else 0)
    everything = "select string_agg(t::text, '') from (select calls::text from calls union all"
    everything += " select packets::text from packets union all select call_events::text from call_events) t"
    assert (PAYLOAD in await sql.fetchval(everything)) is is_kept
    assert PAYLOAD not in caplog.text


async def test_what_means_nothing_is_counted_when_the_stream_ends(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    strange = {"event": "bad name\n", "streamSid": "s"}
    many = [{"event": f"event{number}", "streamSid": "s"} for number in range(1_000)]
    async with streaming(client, start(), strange, strange, start(), *many, stop(2)):
        pass
    line = await until_logged(caplog, "call c: a media stream of twilio has ended")
    assert "'messages': 1005" in line
    assert "'ignored bad?name?': 2" in line
    assert "'ignored start': 1" in line
    assert len(line) < 2_000
    assert counted(caplog.messages, "has ended: {") == 1


async def test_a_start_that_comes_again_changes_nothing(client: Client, sql: Sql) -> None:
    async with streaming(client, start(), *media(2), start(), *media(3), stop(4)):
        await until_state(sql, "c", "ARCHIVED")
    assert (await told(sql)).count("started") == 2  # of the stream and of the AI step
    assert await stored(sql) == [1, 2, 3, 4]


async def test_a_stop_of_another_stream_is_none(client: Client, sql: Sql) -> None:
    async with streaming(client, start(), stop(9, stream="other"), *media(2)):
        await until_stored(sql, 2)
        assert await told(sql) == ["IN_PROGRESS", "started"]


async def test_a_connection_without_a_start_is_closed(
    client: Client, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_START_TIMEOUT", 0.1)
    async with streaming(client, start(), *media(2)) as begun:
        for path in (MEDIA, BINARY):
            async with client.ws_connect(path) as ws:
                message = await ws.receive()
                assert (message.data, message.extra) == (1008, "no start came within 0.1 s")
        assert not begun.closed
    await until(sql, "select count(*) from calls", 1)


async def test_parameters_that_are_the_vendors_own_are_left_alone(client: Client, sql: Sql) -> None:
    path = f"{MEDIA}?sample-rate=16000&x=1&vendor=exotel"
    async with streaming(client, *call_of("exotel"), path=path):
        pass
    await until_state(sql, CALL_IDS["exotel"], "ARCHIVED")
