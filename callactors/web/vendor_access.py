"""How vendors come in: with a key wherever they can put one, or by their signature."""

import base64
import binascii
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import hdrs, web

from callactors.access import Grant, Scope, mask_keys, parse_key
from callactors.errors import NotSigned
from callactors.vendors.extra_signatures import VERIFIERS
from callactors.vendors.signatures import SignedRequest, Verifier, WrongSignature
from callactors.web.body import read_body
from callactors.web.guard import guarded
from callactors.web.problems import Handler

log = logging.getLogger(__name__)

_SIGNED: Final = {
    vendor: Grant(f"{vendor}'s signature", frozenset({Scope.INGEST}), ends=False) for vendor in VERIFIERS
}
_OF_SOCKETS: Final[Mapping[str, str]] = {
    "twilio": "X-Twilio-Signature",
    "signalwire": "X-SignalWire-Signature",
    "plivo": "X-Plivo-Signature-V3",
}
"""The vendors that sign the upgrade to a WebSocket, and the header that tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorRules:
    """How vendors are taken.

    *verifiers* know the secrets of vendors that sign; *public_url* is where vendors find this server, its
    origin, by default what each request says. *media_vendor* is that of all media WebSockets, by default
    found by what they send. Audio is stored only with *store_media*.
    """

    verifiers: Mapping[str, Verifier] = field(default_factory=dict)
    public_url: str | None = None
    media_vendor: str | None = None
    store_media: bool = False


VENDOR_RULES: Final = web.AppKey("callactors_vendor_rules", VendorRules)


def make_verifiers(secrets: Mapping[str, Sequence[str]]) -> dict[str, Verifier]:
    """Return what checks the vendors' signatures with *secrets*, of each vendor those that are good.

    Raises:
        StartupError: a secret is not what the vendor gives, or a package is not installed.
    """
    return {vendor: VERIFIERS[vendor](found) for vendor, found in secrets.items()}


def get_vendor_rules(request: web.Request) -> VendorRules:
    """Return the rules for *request*, also from within a sub-app."""
    rules = request.app.get(VENDOR_RULES)
    return request.config_dict[VENDOR_RULES] if rules is None else rules


def guarded_for_vendors(handler: Handler, opens: frozenset[Scope]) -> Handler:
    """Do as `guarded`; a key may also stand in the path or in Basic, or there may be a signature."""
    return guarded(handler, opens, find_key=_find_key, find_signature=_find_signature)


def _find_key(request: web.Request) -> str | None:
    """Return the key that *request* brings; what has not the form of one may be a vendor's own token."""
    return next((text for text in _find_texts(request) if parse_key(text) is not None), None)


def _find_texts(request: web.Request) -> Iterator[str]:
    yield request.match_info.get("token", "")
    scheme, _, text = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        yield text.strip()
    elif scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeError):
            return
        yield from (password, name)


async def _find_signature(request: web.Request) -> Grant | None:
    """Return what the signature of *request* grants; None if this vendor's are not known here.

    Raises:
        NotSigned: they are, and it is not signed, or wrongly.
    """
    rules = get_vendor_rules(request)
    vendor = request.match_info.get("vendor") or _find_signing_vendor(request.headers)
    verifier = rules.verifiers.get(vendor)
    if verifier is None:
        return None
    is_socket = "vendor" not in request.match_info  # a callback has a body, whatever it says
    body = b"" if is_socket else await read_body(request)
    urls = [*_find_urls(request, rules, is_socket=is_socket)]
    reasons = []
    for url in urls:
        try:
            verifier.check(SignedRequest(url, request.headers, body), time.time())
        except WrongSignature as error:
            reasons.append(str(error))
        else:
            return _SIGNED[vendor]
    told = mask_keys(" and ".join(urls))
    log.warning("a request is not signed by %s: %s; checked for the URL %s", vendor, reasons[-1], told)
    raise NotSigned(vendor)


def _find_signing_vendor(headers: Mapping[str, str]) -> str:
    return next((vendor for vendor, name in _OF_SOCKETS.items() if name in headers), "")


def _find_urls(request: web.Request, rules: VendorRules, *, is_socket: bool) -> Iterator[str]:
    """Yield what the vendor may have signed: of a WebSocket some sign the ws and some the http URL."""
    base = rules.public_url or f"{request.scheme}://{request.host}"
    if is_socket:
        yield base.replace("http", "ws", 1) + request.raw_path
    yield base + request.raw_path
