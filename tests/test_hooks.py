"""Vendors' callbacks over HTTP: kept once each, in whichever order they come, and never told again.

Tried: every vendor, repeats, many at once, calls that end so, wrong bodies, unknown vendors, erased calls.
"""

import asyncio
import io
import json
from typing import Any

import pytest
from aiohttp import ClientResponse
from pytest_aiohttp.plugin import AiohttpClient

from callactors.vendors.callbacks import VENDORS
from tests.media_scenes import (
    Client,
    Start,
    end_of,
    media,
    say,
    start,
    start_with,
    stop,
    stored,
    streaming,
    told,
    until_stored,
)
from tests.scenes import until, until_state
from tests.storage import Sql

CANARY = "kanarienvogel"


@pytest.fixture
def begin(dsn: str, aiohttp_client: AiohttpClient) -> Start:
    return start_with(dsn, aiohttp_client)


@pytest.fixture
async def client(begin: Start) -> Client:
    return await begin()


def form(status: str, number: int = 1, call_id: str = "c", **more: str) -> dict[str, str]:
    """Twilio's status callback."""
    return {
        "CallSid": call_id,
        "CallStatus": status,
        "SequenceNumber": str(number),
        "From": "+15550100",
        **more,
    }


async def tell(client: Client, vendor: str, told: dict[str, Any]) -> ClientResponse:
    if vendor in ("telnyx", "vonage", "jambonz"):
        return await client.post(f"/v1/hooks/{vendor}", json=told)
    return await client.post(f"/v1/hooks/{vendor}", data=told)


def ending(vendor: str) -> dict[str, Any]:
    """What tells that the call named after *vendor* is over."""
    match vendor:
        case "telnyx":
            payload = {"call_control_id": vendor, "hangup_cause": "normal_clearing"}
            return {"data": {"event_type": "call.hangup", "id": "1", "payload": payload}}
        case "vonage":
            return {"uuid": vendor, "status": "completed", "timestamp": "2026-11-24T10:00:00.000Z"}
        case "jambonz":
            return {"call_sid": vendor, "call_status": "completed"}
        case "plivo":
            return {"CallUUID": vendor, "CallStatus": "completed", "Event": "Hangup"}
        case _:
            return form("completed", call_id=vendor)


async def test_every_vendors_end_of_a_call_ends_it_and_stays_on_its_timeline(
    client: Client, sql: Sql
) -> None:
    for vendor in VENDORS:
        assert (await tell(client, vendor, ending(vendor))).status == 204
        await until_state(sql, vendor, "ARCHIVED")
        assert await end_of(sql, vendor) == "provider"
        page = await (await client.get(f"/v1/call/{vendor}/events")).json()
        [status] = [event for event in page["events"] if event["kind"] == "status"]
        word = "call.hangup" if vendor == "telnyx" else "completed"
        assert (status["vendor"], status["status"]) == (vendor, word)
        assert isinstance(status["told"], dict)


async def test_callbacks_that_come_in_any_order_more_than_once_and_at_once_count_once(
    client: Client, sql: Sql
) -> None:
    words = [
        form(word, number) for number, word in enumerate(("completed", "in-progress", "ringing", "initiated"))
    ]
    answers = await asyncio.gather(*(tell(client, "twilio", word) for word in words * 5))
    assert {answer.status for answer in answers} == {204}
    await until_state(sql, "c", "ARCHIVED")
    for word in words:
        assert (await tell(client, "twilio", word)).status == 204
    said = await told(sql)
    for word in words:
        assert said.count(word["CallStatus"]) == 1
    assert said.count("COMPLETED") == 1


@pytest.mark.parametrize(
    ("word", "reason"),
    [("busy", "busy"), ("no-answer", "no_answer"), ("failed", "failed"), ("canceled", "canceled")],
)
async def test_a_call_that_was_never_answered_fails_without_the_ai_step(
    client: Client, sql: Sql, word: str, reason: str
) -> None:
    await tell(client, "twilio", form("initiated"))
    await tell(client, "twilio", form(word, 2))
    await until_state(sql, "c", "FAILED")
    assert await end_of(sql) == reason
    assert await sql.fetchval("select attempt from calls") == 0


async def test_a_status_does_not_cut_off_the_media_that_are_on_their_way(client: Client, sql: Sql) -> None:
    async with streaming(client, start(), *media(2)) as ws:
        await until_stored(sql, 2)
        await tell(client, "twilio", form("completed"))
        assert await sql.fetchval("select state from calls") == "COMPLETED"
        await say(ws, *media(3, 4), stop(5))
        await until_state(sql, "c", "ARCHIVED")
    assert await stored(sql) == [1, 2, 3, 4, 5]
    assert await end_of(sql) == "provider"


async def test_what_is_kept_is_what_it_tells_of_the_call(client: Client, sql: Sql) -> None:
    sent = form("ringing", To="+15550101", RecordingUrl=CANARY)
    await tell(client, "twilio", sent)
    detail = json.loads(await sql.fetchval("select detail from call_events where kind = 'status'"))
    assert detail == {
        "vendor": "twilio",
        "status": "ringing",
        "told": {"from": "+15550100", "to": "+15550101", "sequence": "1"},
    }


async def test_a_callback_that_tells_no_state_makes_no_call(client: Client, sql: Sql) -> None:
    for vendor in ("twilio", "plivo", "vonage", "jambonz"):
        assert (await tell(client, vendor, {"Digits": "1"})).status == 204
    assert await sql.fetchval("select count(*) from calls") == 0


async def test_a_vendor_without_callbacks_is_not_found(client: Client) -> None:
    for vendor in ("asterisk", "nobody", "Twilio"):
        answer = await tell(client, vendor, form("ringing"))
        assert (answer.status, (await answer.json())["type"]) == (404, "/problems/not-found")


WRONG: list[tuple[str, str, bytes]] = [
    ("twilio", "application/x-www-form-urlencoded", b"CallStatus=busy&From=" + CANARY.encode()),
    ("twilio", "application/x-www-form-urlencoded", f"CallSid={CANARY}%20x&CallStatus=busy".encode()),
    ("twilio", "application/x-www-form-urlencoded", f"CallSid=c&CallSid={CANARY}&CallStatus=busy".encode()),
    ("twilio", "application/x-www-form-urlencoded", b"\xff" + CANARY.encode()),
    ("twilio", "text/plain", CANARY.encode()),
    ("twilio", "", CANARY.encode()),
    ("telnyx", "application/json", json.dumps({CANARY: CANARY}).encode()),
    ("telnyx", "application/json", CANARY.encode()),
    ("vonage", "application/json", json.dumps({"uuid": "c", "status": CANARY * 9}).encode()),
    ("jambonz", "application/json", json.dumps([CANARY]).encode()),
]


async def test_a_wrong_body_is_refused_and_not_repeated(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    for vendor, content_type, body in WRONG:
        headers = {"Content-Type": content_type}
        answer = await client.post(f"/v1/hooks/{vendor}", data=body, headers=headers)
        text = await answer.text()
        assert (answer.status, json.loads(text)["type"]) == (422, "/problems/invalid-callback"), body
        assert CANARY not in text
    assert CANARY not in caplog.text
    assert await sql.fetchval("select count(*) from calls") == 0


async def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    answer = await client.post("/v1/hooks/twilio", data=io.BytesIO(b"x" * 2_000_000))
    assert answer.status == 413


async def test_an_erased_call_takes_no_callback(client: Client, sql: Sql) -> None:
    await tell(client, "twilio", form("ringing"))
    assert (await client.delete("/v1/call/c")).status == 202
    await until(sql, "select erased_at is not null from calls", True)
    answer = await tell(client, "twilio", form("completed", 2))
    assert (answer.status, (await answer.json())["type"]) == (410, "/problems/call-erased")
    await until(sql, "select bool_and(detail = '{}') from call_events", True)
    assert await told(sql) == [
        *("IN_PROGRESS", "IN_PROGRESS", "COMPLETED"),
        *("PROCESSING_AI", "FAILED", "FAILED"),
    ]
