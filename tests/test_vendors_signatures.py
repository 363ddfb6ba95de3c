"""Vendors' signatures: taken as the vendors' own clients take them, and nothing else is."""

import hashlib
import hmac
import json
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from callactors.errors import StartupError
from callactors.vendors.callbacks import VENDORS
from callactors.vendors.extra_signatures import VERIFIERS, TelnyxVerifier, VonageVerifier
from callactors.vendors.signatures import (
    JambonzVerifier,
    PlivoVerifier,
    SignedRequest,
    TwilioVerifier,
    Verifier,
    WrongSignature,
)
from tests.fuzz import fuzz

NOW = 1_700_000_000.0
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = "application/x-www-form-urlencoded"
SECRET = "a secret of as many bytes as HS256 wants"
BODY = b'{"status":"completed"}'
TWILIO_FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
PLIVO_FORM = {"CallUUID": "97ceeb52-58b6", "CallStatus": "completed", "From": "+14150001111", "Duration": "0"}
ED25519 = Ed25519PrivateKey.generate()
ED25519_PUBLIC = b64encode(ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def request(url: str = URL, body: bytes = b"", **headers: str) -> SignedRequest:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return SignedRequest(url, named, body)


def is_taken(verifier: Verifier, signed: SignedRequest, now: float = NOW) -> bool:
    try:
        verifier.check(signed, now)
    except WrongSignature:
        return False
    return True


def by_twilio(
    signature: str,
    *,
    url: str = URL,
    body: bytes = b"",
    content_type: str = FORM,
    secrets: tuple[str, ...] = ("12345",),
) -> bool:
    signed = request(url, body, X_Twilio_Signature=signature, Content_Type=content_type)
    return is_taken(TwilioVerifier(secrets), signed)


def test_the_vectors_of_twilios_own_client_are_taken() -> None:
    assert by_twilio("RSOYDt4T1cUTdK1PDd93/VVr8B8=", body=urlencode(TWILIO_FORM).encode())
    other = urlencode({**TWILIO_FORM, "From": "+12349013030", "Caller": "+12349013030"}).encode()
    assert not by_twilio("RSOYDt4T1cUTdK1PDd93/VVr8B8=", body=other)
    assert by_twilio("0/KCTR6DLpKmkAf8muzZqo1nDgQ=", body=other)
    twice = b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234"
    assert by_twilio("IK+Dwps556ElfBT0I3Rgjkr1wJU=", body=twice)


def test_a_body_that_is_no_form_is_signed_by_its_digest_in_the_url() -> None:
    body = b'{"property": "value", "boolean": true}'
    url = f"{URL}&bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = "a9nBmqA0ju/hNViExpshrM61xv4="
    assert by_twilio(signature, url=url, body=body, content_type="application/json")
    assert not by_twilio(signature, url=url, body=body + b" ", content_type="application/json")
    bare = RequestValidator("12345").compute_signature(URL, {})
    assert by_twilio(bare)
    for content_type in ("application/json", "", "text/plain"):
        assert not by_twilio(bare, body=body, content_type=content_type)


def test_any_of_several_tokens_of_twilio_may_have_signed() -> None:
    body = urlencode(TWILIO_FORM).encode()
    for secrets, taken in ((("new", "12345"), True), (("12345", "new"), True), (("new", "old"), False)):
        assert by_twilio("RSOYDt4T1cUTdK1PDd93/VVr8B8=", body=body, secrets=secrets) is taken


def test_twilio_may_have_signed_with_and_without_the_port() -> None:
    sign = RequestValidator("12345").compute_signature
    for scheme, port in (("https", 443), ("http", 80), ("wss", 443)):
        bare, full = f"{scheme}://a.example/x?y=//a.example", f"{scheme}://a.example:{port}/x?y=//a.example"
        for signed in (bare, full):
            for asked in (bare, full):
                assert by_twilio(sign(signed, {}), url=asked)
        assert not by_twilio(sign(full, {}), url=bare.replace("a.example/", "b.example/"))
        assert not by_twilio(sign(full.replace(str(port), "8443"), {}), url=bare)
    assert by_twilio(sign("https://[::1]/x", {}), url="https://[::1]:443/x")


NAMES = st.sampled_from(["CallSid", "From", "a", "b", "A", "é", "", "+ &=%"]) | st.text(max_size=3)
PAIRS = st.lists(st.tuples(NAMES, st.text(max_size=5)), max_size=6)
HOSTS = st.sampled_from(["a.example", "a.example:80", "a.example:443", "a.example:8443"])
URLS = st.builds(
    "{}://{}/{}".format, st.sampled_from(["http", "https"]), HOSTS, st.sampled_from(["", "x?y=1", "é"])
)


@fuzz(700)
@given(PAIRS, URLS, URLS, st.sampled_from(["12345", "other"]))
def test_a_form_is_taken_if_and_only_if_twilios_own_client_takes_it(
    pairs: list[tuple[str, str]], signed: str, asked: str, token: str
) -> None:
    form = MultiDict(pairs)
    signature = RequestValidator(token).compute_signature(signed, form)
    wanted = RequestValidator("12345").validate(asked, form, signature)
    assert by_twilio(signature, url=asked, body=urlencode(pairs).encode()) is wanted
    if wanted and pairs:
        assert not by_twilio(signature, url=asked, body=urlencode([*pairs, ("CallStatus", "x")]).encode())


def test_signalwire_signs_as_twilio_does_under_either_name() -> None:
    verifier = VERIFIERS["signalwire"](["12345"])
    body = urlencode(TWILIO_FORM).encode()
    signature = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    assert is_taken(verifier, request(body=body, X_SignalWire_Signature=signature, Content_Type=FORM))
    assert is_taken(verifier, request(body=body, X_Twilio_Signature=signature, Content_Type=FORM))
    assert not is_taken(VERIFIERS["twilio"](["12345"]), request(body=body, X_SignalWire_Signature=signature))


def by_plivo(
    url: str,
    form: dict[str, str],
    signature: str,
    *,
    nonce: str = "12345",
    content_type: str = FORM,
    **headers: str,
) -> bool:
    headers = headers or {"X_Plivo_Signature_V3": signature}
    signed = request(
        url, urlencode(form).encode(), Content_Type=content_type, X_Plivo_Signature_V3_Nonce=nonce, **headers
    )
    return is_taken(PlivoVerifier(["my-auth-token"]), signed)


PLIVO = [  # as the package plivo 4.63.0 signs them
    ("https://a.example/hook", {}, "p8lP1Wu5OrN3BfnI96KXIx2BGnnjSVmzBu7+93kq/4o="),
    ("https://a.example/hook?b=2&a=1", {}, "SqSduJfFczWPRj27EuD4L3kw2O3Qm/vdoqYu6KZhjtM="),
    ("https://a.example/hook", PLIVO_FORM, "fA0Ubab9RJ3XNVX3J4jvGh68XIjjLNpL00hP+pDHCiI="),
    ("https://a.example/hook?b=2&a=1&a=0&c=", PLIVO_FORM, "g+Pl7miQnbCxGO13pBaLee1iQoNaFWgbIqQuu7K+UrQ="),
    ("https://a.example:8443/hook?b=x%20y", PLIVO_FORM, "jkfFH4CXui+W1Ti6VrazUL+7zzNyLmZwQUzxQ4/XBQs="),
]


@pytest.mark.parametrize(("url", "form", "signature"), PLIVO)
def test_what_plivos_own_client_signs_is_taken_and_no_other(
    url: str, form: dict[str, str], signature: str
) -> None:
    assert by_plivo(url, form, signature)
    assert by_plivo(url, form, f"eHg=, {signature},eHg=")
    assert not by_plivo(url, form, signature, nonce="12346")
    assert not by_plivo(url + "x", form, signature)
    assert not by_plivo(url, {**form, "CallStatus": "failed"}, signature)
    assert by_plivo(url, form, "", X_Plivo_Signature_V3="eHg=", X_Plivo_Signature_MA_V3=signature)


def test_what_plivo_does_not_sign_is_refused() -> None:
    url, form, signature = PLIVO[2]
    assert by_plivo(url, form, signature, content_type=f"{FORM}; charset=utf-8")
    assert not by_plivo(url, form, signature, content_type="application/json")
    assert not by_plivo("https://[a.example/hook", form, signature)


def by_jambonz(header: str, body: bytes = BODY, now: float = NOW) -> bool:
    return is_taken(JambonzVerifier(["old", SECRET]), request(body=body, Jambonz_Signature=header), now)


def test_jambonz_signs_a_time_and_the_body() -> None:
    right = hmac.new(SECRET.encode(), b"1700000000." + BODY, hashlib.sha256).hexdigest()
    assert by_jambonz(f"t=1700000000,v1={right}")
    assert by_jambonz(f"t=1700000000, v1={'0' * 64}, v1={right}")
    assert not by_jambonz(f"t=1700000000,v1={right}", BODY + b" ")
    assert not by_jambonz(f"t=1700000001,v1={right}")
    assert not by_jambonz(f"t=1700000000,v0={right}")
    assert by_jambonz(f"t=1700000000,v1={right}", now=NOW + 300)
    assert not by_jambonz(f"t=1700000000,v1={right}", now=NOW + 301)
    assert not by_jambonz(f"t=1700000000,v1={right}", now=NOW - 301)


@pytest.mark.parametrize(
    "header", ["", "t", "v1", "t=1700000000", f"v1={'0' * 64}", "t=,v1=", "t=1e9,v1=0", "=,="]
)
def test_a_signature_of_jambonz_without_its_parts_is_refused(header: str) -> None:
    assert not by_jambonz(header)


def by_telnyx(
    signature: bytes,
    *,
    time: str = "1700000000",
    body: bytes = BODY,
    now: float = NOW,
    keys: tuple[str, ...] = (),
) -> bool:
    headers = {"telnyx_timestamp": time, "telnyx_signature_ed25519": b64encode(signature).decode()}
    return is_taken(TelnyxVerifier(keys or (ED25519_PUBLIC,)), request(body=body, **headers), now)


def test_telnyx_signs_a_time_and_the_body() -> None:
    right = ED25519.sign(b"1700000000|" + BODY)
    assert by_telnyx(right)
    assert by_telnyx(right, body=BODY, now=NOW - 300)
    assert not by_telnyx(right, body=BODY + b" ")
    assert not by_telnyx(right, time="1700000001")
    assert not by_telnyx(right[:-1])
    assert not by_telnyx(b"")


def test_a_replay_of_telnyx_is_refused_by_its_time() -> None:
    right = ED25519.sign(b"1700000000|" + BODY)
    assert not by_telnyx(right, now=NOW + 301)
    assert not by_telnyx(right, now=NOW - 301)
    assert not by_telnyx(ED25519.sign(b"-1|" + BODY), time="-1", now=0.0)
    assert not by_telnyx(ED25519.sign("\u0661|".encode() + BODY), time="\u0661", now=1.0)


def test_any_of_several_keys_of_telnyx_may_have_signed() -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    right = ED25519.sign(b"1700000000|" + BODY)
    assert by_telnyx(right, keys=(b64encode(other).decode(), ED25519_PUBLIC))
    assert not by_telnyx(right, keys=(b64encode(other).decode(),))


def test_what_is_no_base64_is_no_signature_of_telnyx() -> None:
    right = b64encode(ED25519.sign(b"1700000000|" + BODY)).decode()
    for signature, taken in ((right, True), (f"!{right}", False), ("\u0661" * 88, False), ("\udce9", False)):
        headers = {"telnyx_timestamp": "1700000000", "telnyx_signature_ed25519": signature}
        assert is_taken(TelnyxVerifier([ED25519_PUBLIC]), request(body=BODY, **headers)) is taken


def encode(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()


def hs256(message: bytes, secret: str = SECRET) -> bytes:
    return hmac.new(secret.encode(), message, hashlib.sha256).digest()


def token(
    *, algorithm: Any = "HS256", sign: Callable[[bytes], bytes] = hs256, without: str = "", **claims: Any
) -> str:
    told = {"iat": 1_700_000_000, "iss": "Vonage", "payload_hash": hashlib.sha256(BODY).hexdigest(), **claims}
    told.pop(without, None)
    head, payload = json.dumps({"alg": algorithm, "typ": "JWT"}), json.dumps(told)
    message = f"{encode(head.encode())}.{encode(payload.encode())}"
    return f"{message}.{encode(sign(message.encode()))}"


def by_vonage(text: str, *, body: bytes = BODY, now: float = NOW, scheme: str = "Bearer ") -> bool:
    verifier = VonageVerifier(["another secret of as many bytes as that", SECRET])
    return is_taken(verifier, request(body=body, Authorization=scheme + text), now)


def test_vonage_signs_a_token_of_the_body() -> None:
    assert by_vonage(token())
    assert by_vonage(token(aud="x", exp=1_700_000_001, nbf=1_800_000_000, sub="x", jti="y"))
    assert by_vonage(token(), scheme="bearer  ")
    assert not by_vonage(token(), body=BODY + b" ")
    assert not by_vonage(token(), scheme="Basic ")
    assert not by_vonage(
        token(sign=lambda message: hs256(message, "a third secret of as many bytes as that"))
    )


def test_a_replay_of_vonage_is_refused_by_its_time() -> None:
    assert by_vonage(token(), now=NOW + 300)
    assert by_vonage(token(iat=4_000_000_000), now=4_000_000_000.0)
    assert not by_vonage(token(), now=NOW + 301)
    assert not by_vonage(token(), now=NOW - 301)


def test_a_token_of_another_algorithm_is_refused() -> None:
    key = rsa.generate_private_key(65_537, 2_048)
    assert not by_vonage(token(algorithm="none", sign=lambda _: b""))
    assert not by_vonage(token(algorithm="None", sign=lambda _: b""))
    assert not by_vonage(token(algorithm="RS256"))
    assert not by_vonage(
        token(algorithm="RS256", sign=lambda m: key.sign(m, padding.PKCS1v15(), hashes.SHA256()))
    )
    assert not by_vonage(token(algorithm="HS512", sign=lambda m: hmac.digest(SECRET.encode(), m, "sha512")))
    assert not by_vonage(token(algorithm=["HS256"]))


def test_a_public_key_as_a_secret_opens_nothing() -> None:
    key = rsa.generate_private_key(65_537, 2_048)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    by_key = token(algorithm="RS256", sign=lambda m: key.sign(m, padding.PKCS1v15(), hashes.SHA256()))
    for text in (by_key, token(sign=lambda m: hs256(m, pem))):
        assert not is_taken(VonageVerifier([pem]), request(body=BODY, Authorization=f"Bearer {text}"))


@pytest.mark.parametrize(
    "claims",
    [
        {"without": "iat"},
        {"without": "payload_hash"},
        {"iat": None},
        {"iat": True},
        {"iat": 10**400},
        {"iat": float("nan")},
        {"iat": "\ud800"},
        {"payload_hash": None},
        {"payload_hash": [""]},
        {"payload_hash": "\ud800"},
    ],
)
def test_a_token_without_its_claims_is_refused(claims: dict[str, Any]) -> None:
    assert not by_vonage(token(**claims))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b.c",
        "\udce9",
        f"{encode(b'[' * 100_000)}.e30.",
        f"{encode(b'9' * 5_000)}.e30.x",
        token() + "\u0661",
        f"!{token()}",
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert not by_vonage(text)


def test_what_is_not_signed_is_refused_and_the_text_names_the_header() -> None:
    assert set(VERIFIERS) == set(VENDORS)
    for make in VERIFIERS.values():
        with pytest.raises(WrongSignature, match=r"there is no (X-|Telnyx-|Jambonz-S|Authorization)"):
            make([ED25519_PUBLIC]).check(request(), NOW)


def test_a_refusal_repeats_neither_the_secret_nor_the_request() -> None:
    for header in ("X_Twilio_Signature", "Jambonz_Signature", "telnyx_timestamp", "Authorization"):
        for make in VERIFIERS.values():
            with pytest.raises(WrongSignature) as refused:
                make([ED25519_PUBLIC]).check(request(body=b"canary", **{header: "Bearer canary"}), NOW)
            told = f"{refused.value!r} {refused.value.__cause__!r}"
            assert "canary" not in told
            assert ED25519_PUBLIC not in told


def test_bytes_that_are_no_utf_8_are_refused_wherever_they_stand() -> None:
    url, form, signature = PLIVO[2]
    assert not by_twilio("\udce9")
    assert not by_twilio("eHg=", url=URL + "\udce9")
    assert not by_plivo(url, form, "\udce9")
    assert not by_plivo(url, form, signature, nonce="\udce9")
    assert not by_jambonz("t=1700000000,v1=\udce9")
    assert not by_vonage("\udce9")


HEADERS = (
    *("X_Twilio_Signature", "X_SignalWire_Signature", "X_Plivo_Signature_V3", "X_Plivo_Signature_V3_Nonce"),
    *("Jambonz_Signature", "telnyx_timestamp", "telnyx_signature_ed25519", "Authorization"),
)


@fuzz(500)
@given(
    st.sampled_from(sorted(VERIFIERS)),
    st.dictionaries(
        st.sampled_from(HEADERS),
        st.text(alphabet=st.characters(), max_size=20)
        | st.sampled_from(
            ["t=1700000000,v1=x", "1700000000", "Bearer a.b.c", "bearer e30.e30.e30", "\udcff"]
        ),
    ),
    st.text(alphabet=st.characters(), max_size=10)
    | st.sampled_from([URL, "https://[x/", "https://a:b:c/?%ff"]),
    st.binary(max_size=20),
    st.sampled_from([FORM, "application/json"]),
)
def test_whatever_comes_is_refused_without_another_error(
    vendor: str, headers: dict[str, str], url: str, body: bytes, content_type: str
) -> None:
    signed = request(url, body, Content_Type=content_type, **headers)
    assert not is_taken(VERIFIERS[vendor]([ED25519_PUBLIC]), signed)


@pytest.mark.parametrize("vendor", VERIFIERS)
@pytest.mark.parametrize("secrets", [[], [""], [ED25519_PUBLIC, ""]])
def test_an_empty_secret_with_which_anybody_could_sign_stops_the_start(
    vendor: str, secrets: list[str]
) -> None:
    with pytest.raises(StartupError):
        VERIFIERS[vendor](secrets)


@pytest.mark.parametrize("key", ["x", b64encode(b"x" * 31).decode(), ED25519_PUBLIC + "\n", "\u0661" * 44])
def test_what_is_no_public_key_of_telnyx_stops_the_start(key: str) -> None:
    with pytest.raises(StartupError, match=r"32 bytes in base64"):
        TelnyxVerifier([key])


@pytest.mark.parametrize(
    ("vendor", "module", "package"),
    [("telnyx", "cryptography.exceptions", "cryptography"), ("vonage", "jwt", "PyJWT")],
)
def test_a_missing_package_is_told_at_the_start(
    vendor: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StartupError, match=rf"{package} is not installed.*callactors\[telephony\]"):
        VERIFIERS[vendor]([ED25519_PUBLIC])
