"""How vendors are set up: secrets are read as they are given, and shown to nobody.

Tried: several, base64 with its '=', other names, no secret, keys that are none, values where names belong.
"""

import pytest
from aiohttp import web
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from callactors.app import make_app
from callactors.errors import StartupError, WrongSettings
from callactors.settings import Settings, read_settings
from callactors.vendors.signatures import SignedRequest, WrongSignature
from callactors.web.vendor_access import VENDOR_RULES
from tests.test_vendors_signatures import ED25519_PUBLIC

URL, HEADER = "https://a.example/", "X-Twilio-Signature"
CANARY = "kanarienvogel"


def read(monkeypatch: pytest.MonkeyPatch, text: str) -> Settings:
    monkeypatch.setenv("CALLACTORS_VENDOR_SECRETS", text)
    return read_settings({})


def test_secrets_are_pairs_and_may_be_several_of_one_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, f"twilio=old, twilio=new,telnyx={ED25519_PUBLIC},jambonz=a=b==")
    secrets = [(vendor, secret.get_secret_value()) for vendor, secret in settings.vendor_secrets]
    assert secrets == [
        ("twilio", "old"),
        ("twilio", "new"),
        ("telnyx", ED25519_PUBLIC),
        ("jambonz", "a=b=="),
    ]
    app = make_app(settings)
    assert isinstance(app, web.Application)
    assert set(app[VENDOR_RULES].verifiers) == {"twilio", "telnyx", "jambonz"}
    for secret in ("old", "new"):
        signature = RequestValidator(secret).compute_signature(URL, {})
        app[VENDOR_RULES].verifiers["twilio"].check(SignedRequest(URL, {HEADER: signature}), 0.0)
    with pytest.raises(WrongSignature, match="of another secret"):
        app[VENDOR_RULES].verifiers["twilio"].check(SignedRequest(URL, {HEADER: "x"}), 0.0)


@pytest.mark.parametrize("text", [CANARY, f"nobody={CANARY}", f"twilio:{CANARY}", f"={CANARY}"])
def test_what_is_no_pair_of_a_vendor_and_its_secret_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    with pytest.raises(WrongSettings) as caught:
        read(monkeypatch, text)
    told = str(caught.value)
    assert "CALLACTORS_VENDOR_SECRETS" in told
    assert "twilio" in told, "it says which there are"
    assert CANARY not in told
    assert CANARY not in repr(caught.value)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("twilio=", "none of them empty"),
        (f"telnyx={CANARY}", "32 bytes in base64"),
        (f"texml={CANARY}", "32 bytes in base64"),
    ],
)
def test_secrets_that_cannot_be_used_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, text: str, phrase: str
) -> None:
    with pytest.raises(StartupError, match=phrase) as caught:
        make_app(read(monkeypatch, text))
    assert CANARY not in str(caught.value)


def test_settings_and_rules_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, f"twilio={CANARY},vonage={CANARY * 4}")
    rules = make_app(settings)[VENDOR_RULES]
    assert CANARY not in f"{settings!r} {settings} {settings.model_dump()} {rules!r}"


@pytest.mark.parametrize("text", ["calls.example", "ftp://a.example", "https://a.example/", "https://a?b"])
def test_a_public_url_is_an_origin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("CALLACTORS_PUBLIC_URL", text)
    with pytest.raises(WrongSettings, match="CALLACTORS_PUBLIC_URL"):
        read_settings({})
