"""Who may come in by vendors' ways: keys wherever they can be put, and signatures, checked against the URL.

Tried: wrong places and keys, keys of other calls, forged, old and missing signatures, a server behind a
proxy, a callback that says it is a WebSocket to have its body left unsigned.
"""

import hashlib
import hmac
import time
from base64 import b64encode
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from aiohttp import ClientResponse, WSServerHandshakeError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pytest_aiohttp.plugin import AiohttpClient
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from callactors.access import Scope
from callactors.web.vendor_access import VendorRules, make_verifiers
from tests.media_scenes import (
    BINARY,
    MEDIA,
    Client,
    Start,
    closed,
    make_key,
    start,
    start_with,
    stop,
    streaming,
    until_begun,
)
from tests.storage import Sql

SECRET = "a secret of as many bytes as HS256 wants"
PUBLIC = "https://calls.example"
HOOK = "/v1/hooks/twilio"
RINGING = {"CallSid": "c", "CallStatus": "ringing"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
ED25519 = Ed25519PrivateKey.generate()
ED25519_PUBLIC = b64encode(ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


@pytest.fixture
def begin(dsn: str, aiohttp_client: AiohttpClient) -> Start:
    return start_with(dsn, aiohttp_client)


@pytest.fixture
async def client(begin: Start) -> Client:
    return await begin()


def signing(public_url: str | None = PUBLIC, **secrets: str) -> VendorRules:
    chosen = {vendor: [secret] for vendor, secret in secrets.items()}
    return VendorRules(verifiers=make_verifiers(chosen), public_url=public_url)


async def slug(response: ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json(content_type=None))["type"].removeprefix("/problems/")


def sign_twilio(url: str, fields: dict[str, str] | None = None, secret: str = SECRET) -> dict[str, str]:
    return {"X-Twilio-Signature": RequestValidator(secret).compute_signature(url, fields or {})}


def basic(name: str, password: str) -> str:
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"


def places(key: str, path: str) -> list[dict[str, Any]]:
    """Every place that a key may stand in."""
    return [
        {"path": f"{path}/{key}"},
        {"path": path, "headers": {"Authorization": f"Bearer {key}"}},
        {"path": path, "headers": {"Authorization": basic("user", key)}},
        {"path": path, "headers": {"Authorization": basic(key, "x")}},
    ]


async def test_a_key_opens_wherever_it_stands(client: Client, sql: Sql) -> None:
    key = await make_key(client, sql, Scope.INGEST)
    for place in places(key, HOOK):
        answer = await client.post(place.pop("path"), data=RINGING, **place)
        assert answer.status == 204
    for number, place in enumerate([*places(key, MEDIA), *places(key, BINARY)]):
        first: Any = start(f"c{number}") if MEDIA + "/b" not in place["path"] else {"call_id": f"c{number}"}
        async with streaming(client, first, **place):
            await until_begun(sql, f"c{number}")


async def test_no_wrong_key_opens_anything_and_none_is_repeated(
    client: Client, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="callactors")
    key = await make_key(client, sql, Scope.INGEST)
    other = await make_key(client, sql, Scope.SUPERVISE)
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for text, status in ((wrong, 401), ("nonsense", 401), (other, 403)):
        for place in places(text, HOOK):
            answer = await client.post(place.pop("path"), data=RINGING, **place)
            assert answer.status == status
            assert text.split("_", 2)[-1] not in (await answer.text()) or text == "nonsense"
        for place in places(text, MEDIA):
            with pytest.raises(WSServerHandshakeError) as caught:
                await client.ws_connect(**place)
            assert caught.value.status == status
    for text in (key, wrong, other):
        assert text.split("_", 2)[2] not in caplog.text
    answer = await client.post(f"{HOOK}/{wrong}", data=RINGING)
    assert (await answer.json())["instance"] == f"{HOOK}/ca_{key.split('_')[1]}_***"


async def test_a_key_of_other_calls_opens_no_stream_and_no_callback(client: Client, sql: Sql) -> None:
    key = await make_key(client, sql, Scope.INGEST, prefix="acme-")
    assert await slug(await client.post(f"{HOOK}/{key}", data=RINGING)) == (403, "call-not-allowed")
    async with streaming(client, start(), path=f"{MEDIA}/{key}") as ws:
        code, reason = await closed(ws)
        assert code == 1008
        assert "acme-" in reason
    assert await sql.fetchval("select count(*) from calls") == 0
    async with streaming(client, start("acme-1"), path=f"{MEDIA}/{key}"):
        await until_begun(sql, "acme-1")


def signed_by(vendor: str, url: str, at: float) -> tuple[bytes, dict[str, str]]:
    """A callback as *vendor* would sign it."""
    ids = {"plivo": "CallUUID", "telnyx": "", "jambonz": "call_sid", "vonage": "uuid"}
    fields = {ids.get(vendor, "CallSid"): f"c-{vendor}", "CallStatus": "ringing"}
    body, seconds = urlencode(fields).encode(), str(int(at))
    match vendor:
        case "twilio":
            return body, {**FORM, **sign_twilio(url, fields)}
        case "signalwire":
            return body, {**FORM, "X-SignalWire-Signature": sign_twilio(url, fields)["X-Twilio-Signature"]}
        case "plivo":
            text = f"{url}?{''.join(name + fields[name] for name in sorted(fields))}.nonce"
            signature = b64encode(hmac.digest(SECRET.encode(), text.encode(), "sha256")).decode()
            return body, {**FORM, "X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": "nonce"}
        case "telnyx" | "texml":
            if vendor == "telnyx":
                body = b'{"data":{"event_type":"call.answered","payload":{"call_control_id":"c-telnyx"}}}'
            signature = b64encode(ED25519.sign(f"{seconds}|".encode() + body)).decode()
            told = {"Telnyx-Timestamp": seconds, "Telnyx-Signature-Ed25519": signature}
            return body, {**(JSON if vendor == "telnyx" else FORM), **told}
        case "jambonz":
            body = b'{"call_sid":"c-jambonz","call_status":"ringing"}'
            told_hash = hmac.digest(SECRET.encode(), f"{seconds}.".encode() + body, "sha256").hex()
            return body, {**JSON, "Jambonz-Signature": f"t={seconds},v1={told_hash}"}
        case _:
            body = b'{"uuid":"c-vonage","status":"ringing"}'
            claims = {"iat": int(at), "payload_hash": hashlib.sha256(body).hexdigest()}
            return body, {**JSON, "Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}


VENDORS = ("twilio", "signalwire", "plivo", "telnyx", "texml", "jambonz", "vonage")
TIMED = ("telnyx", "texml", "jambonz", "vonage")


async def test_each_vendors_signature_opens_its_callbacks_and_nothing_else_does(
    begin: Start, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = {vendor: ED25519_PUBLIC if vendor in ("telnyx", "texml") else SECRET for vendor in VENDORS}
    client = await begin(vendors=signing(**secrets))
    for vendor in VENDORS:
        path = f"/v1/hooks/{vendor}"
        body, headers = signed_by(vendor, PUBLIC + path, time.time())
        assert (await client.post(path, data=body, headers=headers)).status == 204, vendor
        assert await sql.fetchval("select true from calls where call_id = $1", f"c-{vendor}")
        unsigned = {"Content-Type": headers["Content-Type"]}
        forged: list[tuple[bytes, dict[str, str]]] = [
            (body + b" ", headers),
            (body, unsigned),
            (body, {**unsigned, **signed_by("twilio", PUBLIC, 0)[1], "Content-Type": "application/json"}),
            (body + b"x", {**headers, "Upgrade": "websocket", "Connection": "Upgrade"}),
        ]
        if vendor in TIMED:
            forged.append(signed_by(vendor, PUBLIC + path, time.time() - 1_000))
        for changed, told in forged:
            caplog.clear()
            answer = await client.post(path, data=changed, headers=told)
            assert await slug(answer) == (403, "not-signed"), (vendor, changed)
            assert f"checked for the URL {PUBLIC}{path}" in caplog.text
            assert SECRET not in caplog.text


async def test_a_callback_that_asks_for_a_websocket_is_signed_with_its_body(begin: Start, sql: Sql) -> None:
    client = await begin(vendors=signing(twilio=SECRET))
    headers = {**sign_twilio(PUBLIC + HOOK), "Upgrade": "websocket"}  # of no body at all
    assert await slug(await client.post(HOOK, data=RINGING, headers=headers)) == (403, "not-signed")
    assert await sql.fetchval("select count(*) from calls") == 0


async def test_a_stream_may_be_signed_for_its_ws_or_its_http_url(begin: Start, sql: Sql) -> None:
    client = await begin(vendors=signing(twilio=SECRET))
    await make_key(client, sql, Scope.SUPERVISE)  # so that who has no key has nothing
    for number, origin in enumerate((PUBLIC, "wss://calls.example")):
        path = f"{MEDIA}?vendor=twilio"
        headers = sign_twilio(origin + path)
        async with streaming(client, start(f"c{number}"), stop(2), path=path, headers=headers):
            await until_begun(sql, f"c{number}")
    for headers in (
        sign_twilio(PUBLIC),
        sign_twilio(PUBLIC + MEDIA, secret="other"),
        {"X-Twilio-Signature": ""},
    ):
        with pytest.raises(WSServerHandshakeError) as caught:
            await client.ws_connect(MEDIA, headers=headers)
        assert caught.value.status == 403
    with pytest.raises(WSServerHandshakeError) as caught:
        await client.ws_connect(MEDIA)
    assert caught.value.status == 401


async def test_without_a_public_url_the_request_says_what_was_signed(begin: Start) -> None:
    client = await begin(vendors=signing(None, twilio=SECRET))
    headers = sign_twilio(str(client.make_url(HOOK)), RINGING)
    assert (await client.post(HOOK, data=RINGING, headers=headers)).status == 204
    headers = sign_twilio(PUBLIC + HOOK, RINGING)
    assert (await client.post(HOOK, data=RINGING, headers=headers)).status == 403


async def test_a_key_goes_before_a_signature(
    begin: Start, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    client = await begin(vendors=signing(twilio=SECRET))
    key = await make_key(client, sql, Scope.INGEST)
    assert (await client.post(f"{HOOK}/{key}", data=RINGING)).status == 204
    assert await slug(await client.post(f"{HOOK}/nonsense", data=RINGING)) == (403, "not-signed")


async def test_a_vendor_with_a_secret_must_sign_though_there_are_no_keys_and_another_need_not(
    begin: Start,
) -> None:
    client = await begin(vendors=signing(twilio=SECRET))
    assert await slug(await client.post(HOOK, data=RINGING)) == (403, "not-signed")
    assert (await client.post("/v1/hooks/signalwire", data=RINGING)).status == 204
    async with client.ws_connect(MEDIA):
        pass
