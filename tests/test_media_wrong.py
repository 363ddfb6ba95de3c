"""Streams that are not what they should be: refused with a text that says the mend, or left out in part.

Tried: garbage, another vendor's way, frames too long, conflicts, and calls that end under their streams.
"""

from contextlib import suppress
from itertools import chain

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from callactors.web.keys import SYSTEM
from tests.media_scenes import (
    BINARY,
    MEDIA,
    Client,
    Message,
    Start,
    closed,
    counted,
    end_of,
    media,
    say,
    start,
    start_with,
    stop,
    stored,
    streaming,
    until_logged,
    until_stored,
)
from tests.scenes import COMPLETE, until, until_state
from tests.storage import Sql
from tests.vendor_fixtures import CALL_IDS, call_of

CANARY = "kanarienvogel"


@pytest.fixture
def begin(dsn: str, aiohttp_client: AiohttpClient) -> Start:
    return start_with(dsn, aiohttp_client)


@pytest.fixture
async def client(begin: Start) -> Client:
    return await begin()


WRONG_BEGINS: dict[str, tuple[str, Message, str]] = {
    "media first": (MEDIA, media(1)[0], "media came before start"),
    "stop first": (MEDIA, stop(1), "stop came before start"),
    "no JSON": (MEDIA, CANARY, "the message is not JSON"),
    "no object": (MEDIA, f'["{CANARY}"]', "the message is JSON, but not an object"),
    "no event": (MEDIA, {CANARY: CANARY}, "the message has no event"),
    "binary": (MEDIA, CANARY.encode(), "this vendor sends no binary messages"),
    "strange": (
        MEDIA,
        {"event": "start", "start": {CANARY: CANARY}},
        "these messages are of no vendor we know: name it in the URL with ?vendor=",
    ),
    "other vendor": (
        f"{MEDIA}?vendor=telnyx",
        start(),
        "the start message has no stream_id as telnyx sends it: check ?vendor=",
    ),
    "no call": (
        BINARY,
        {"sampleRate": 8000, "x": CANARY},
        "the first message names no call: name it in the URL with ?call_id=",
    ),
    "no call id": (
        BINARY,
        {"call_id": f"{CANARY} {CANARY}"},
        "the id of the call is missing, or cannot be one here",
    ),
    "no preamble": (
        f"{BINARY}?vendor=vonage",
        {"call_id": CANARY},
        "vonage's first message is not websocket:connected: check ?vendor=",
    ),
}


async def test_what_does_not_begin_as_a_stream_is_refused_with_the_mend(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    for name, (path, message, reason) in WRONG_BEGINS.items():
        async with streaming(client, message, path=path) as ws:
            assert await closed(ws) == (1008, reason), name
        assert f"is refused: {reason}" in caplog.text
    assert CANARY not in caplog.text
    assert await sql.fetchval("select count(*) from calls") == 0


async def test_too_much_before_the_first_text_is_refused(client: Client) -> None:
    async with streaming(client, *[b"x"] * 51, path=BINARY) as ws:
        assert await closed(ws) == (1008, "too much audio came before the first text message")


async def test_audio_before_the_first_text_is_of_the_stream(client: Client, sql: Sql) -> None:
    first, *rest = call_of("asterisk")
    async with streaming(client, bytes(160), first, *rest, path=BINARY):
        pass
    await until_state(sql, CALL_IDS["asterisk"], "ARCHIVED")
    assert await stored(sql, CALL_IDS["asterisk"]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("query", ["?vendor=nobody", "?vendor=jambonz", "?vendor=twilio&vendor=plivo"])
async def test_wrong_parameters_are_told_before_the_upgrade(client: Client, query: str) -> None:
    response = await client.get(MEDIA + query, headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert response.status == 422
    assert (await response.json())["type"] == "/problems/validation"


async def test_a_request_that_is_no_upgrade_is_told_so(client: Client) -> None:
    for path in (MEDIA, BINARY):
        response = await client.get(path)
        assert (response.status, response.headers["Upgrade"]) == (426, "websocket")
        assert (await client.head(path)).status == 405


GARBAGE: list[Message] = [
    "{",
    b"\x00" * 20,
    {"event": "media", "streamSid": "s"},
    {**media(9)[0], "streamSid": "other"},
    {**media(9)[0], "sequenceNumber": "-1"},
    media(9, payload="no base64!")[0],
    {**start(), "start": {**start()["start"], "callSid": "other"}},
]


async def test_single_wrong_messages_are_left_out_and_counted(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    between = chain.from_iterable(zip(GARBAGE, media(*range(2, 9)), strict=True))
    async with streaming(client, start(), *between, stop(9)):
        await until_state(sql, "c", "ARCHIVED")
    assert await stored(sql) == list(range(1, 10))
    line = await until_logged(caplog, "has ended: {")
    assert "'wrong': 7" in line
    assert counted(caplog.messages, "a message of twilio is left out: the message is not JSON") == 1
    assert counted(caplog.messages, "is left out") == 1


async def test_too_many_wrong_messages_end_the_connection(client: Client, sql: Sql) -> None:
    async with streaming(client, start(), *media(2), *["{"] * 1_000) as ws:
        assert await closed(ws) == (1008, "the message is not JSON")
    await until(sql, "select count(*) from call_events where detail->>'phase' = 'dropped'", 1)
    assert await stored(sql) == [1, 2]


@pytest.mark.parametrize("vendor", ["twilio", "jambonz"])
async def test_a_message_that_is_too_long_ends_the_connection_and_what_came_before_is_stored(
    client: Client, sql: Sql, vendor: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = MEDIA if vendor == "twilio" else BINARY
    async with streaming(client, *call_of(vendor)[:3], path=path) as ws:
        await say(ws, media(9, payload="A" * 1_100_000)[0] if vendor == "twilio" else b"x" * 1_100_000)
        assert (await closed(ws))[0] == 1009
    await until(sql, "select count(*) from call_events where detail->>'phase' = 'dropped'", 1)
    assert await stored(sql, CALL_IDS[vendor]) == ([1, 2] if vendor == "twilio" else [1, 2, 3])
    assert "Traceback" not in caplog.text


async def test_a_sender_of_far_too_much_is_cut_off(client: Client, sql: Sql) -> None:
    async with streaming(client, *call_of("jambonz")[:3], path=BINARY) as ws:
        with suppress(ConnectionError):  # it is not read to its end
            await say(ws, b"x" * 50_000_000)
        await until(sql, "select count(*) from call_events where detail->>'phase' = 'dropped'", 1)
    assert await stored(sql, CALL_IDS["jambonz"]) == [1, 2, 3]


async def test_frames_that_break_the_protocol_end_the_connection(client: Client, sql: Sql) -> None:
    async with streaming(client, *call_of("jambonz")[:2], path=BINARY) as ws:
        await ws._writer.send_frame(b"\xff", 1)  # no UTF-8
        assert (await closed(ws))[0] == 1007
    await until(sql, "select count(*) from call_events where detail->>'phase' = 'dropped'", 1)


async def test_a_sequence_with_other_data_is_refused_and_the_first_stays(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    other = media(2, 3, payload="AAAA")
    async with streaming(client, start(), *media(2, 3), *other, *media(4), stop(5)):
        await until_state(sql, "c", "ARCHIVED")
    assert await stored(sql) == [1, 2, 3, 4, 5]
    assert await sql.fetchval("select count(*) from packets where data like '%\"length\":160%'") == 3
    assert "'refused': 2" in await until_logged(caplog, "has ended: {")
    assert counted(caplog.messages, "a packet of twilio is refused: sequence 2 of stream 's'") == 1


async def test_a_duplicate_and_a_late_packet_are_nothing_wrong(client: Client, sql: Sql) -> None:
    async with streaming(client, start(), *media(3, 3, 2, 4), stop(5)):
        await until_state(sql, "c", "ARCHIVED")
    assert await stored(sql) == [1, 2, 3, 4, 5]
    assert dict(await sql.fetchrow("select late, duplicates from calls") or {}) == {
        "late": 1,
        "duplicates": 1,
    }


async def test_a_call_that_is_completed_meanwhile_closes_its_stream(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    async with streaming(client, start(), *media(2)) as ws:
        await until_stored(sql, 2)
        await client.app[SYSTEM].complete("c", COMPLETE)
        await until_state(sql, "c", "ARCHIVED")
        await say(ws, *media(*range(3, 200)))
        assert await closed(ws) == (1000, "the call is over")
    async with streaming(client, start(), *media(2)) as ws:
        assert await closed(ws) == (1000, "the call is over")
    assert await end_of(sql) == "api"
    assert counted(caplog.messages, "takes no new packets") == 2  # once a connection
    assert await stored(sql) == [1, 2]


async def test_a_call_that_is_erased_meanwhile_closes_its_stream(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with streaming(client, start(), *media(2)) as ws:
        await until_stored(sql, 2)
        assert (await client.delete("/v1/call/c")).status == 202
        await say(ws, *media(*range(3, 200)))
        assert await closed(ws) == (1000, "the call is over")
        await until_logged(caplog, "has ended: {")
    async with streaming(client, start(), *media(2)) as ws:
        assert await closed(ws) == (1000, "the call is over")
    await until(sql, "select count(*) from packets", 0)
    assert (await client.get("/v1/call/c")).status == 410
    assert counted(caplog.messages, "the call was erased") == 2
