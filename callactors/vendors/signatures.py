"""Whether a request was signed by the vendor it says it is from: what needs no more than HMAC.

Where the vendor signs a time, a request that was signed too long ago is refused. Twilio and Plivo sign none:
a replay of theirs is held off by the keys of callbacks, which are the same in each repeat.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from callactors.errors import StartupError
from callactors.vendors.bodies import FORM, media_type_of, read_pairs
from callactors.vendors.steps import WrongCallback

TOLERANCE: Final = 300.0
"""Seconds that a request may have been under way, which is what Telnyx' and jambonz' own clients allow."""

_PORT: Final = re.compile(r":\d*$", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)
_TLS: Final = ("https", "wss")


class SignedRequest(NamedTuple):
    """What vendors sign of a request.

    *url* is the one that the vendor was given, with the query, as the vendor spells it: behind a proxy, not
    the one that the request came in with. *headers* finds names in any case. *body* is as it was sent; an
    upgrade to a WebSocket has none.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class Verifier(Protocol):
    """Knows the secrets of one vendor; there may be several, so that they can be rotated."""

    def check(self, request: SignedRequest, now: float) -> None:
        """Return if *request* is signed; *now* is in seconds since 1970.

        Raises:
            WrongSignature: it is not, or not now.
        """


class WrongSignature(Exception):
    """A request is not signed as its vendor would; the text may be logged, and holds nothing of either."""


class TwilioVerifier:
    """X-Twilio-Signature: HMAC-SHA1 over the URL and the form, in base64.

    Source: Twilio's page on the security of webhooks. A body that is no form must have its SHA-256 in the
    URL, as `bodySHA256`, or it would be unsigned. SignalWire signs the same way, under a name of its own.
    """

    def __init__(self, secrets: Sequence[str], *, headers: Sequence[str] = ("X-Twilio-Signature",)) -> None:
        self._keys = check_secrets(secrets)
        self._headers = headers

    def check(self, request: SignedRequest, now: float) -> None:
        """See Verifier."""
        found = _require_headers(request, *self._headers)
        fields = "".join(name + value for name, value in sorted(set(_signed_pairs(request))))
        urls = _spell_port(request.url)
        wanted = [_sign(key, url + fields, hashlib.sha1) for key in self._keys for url in urls]
        _require_match([b64encode(digest).decode() for digest in wanted], found)


class PlivoVerifier:
    """X-Plivo-Signature-V3: HMAC-SHA256 over the URL, the form and a nonce, in base64.

    Source: Plivo's page on the validation of signatures. The header may list several signatures; a request
    for a subaccount may have that of the main account in X-Plivo-Signature-MA-V3.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = check_secrets(secrets)

    def check(self, request: SignedRequest, now: float) -> None:
        """See Verifier."""
        found = ",".join(_require_headers(request, "X-Plivo-Signature-V3", "X-Plivo-Signature-MA-V3"))
        nonce = require_header(request, "X-Plivo-Signature-V3-Nonce")
        message = f"{_spell_for_plivo(request)}.{nonce}"
        wanted = [b64encode(_sign(key, message, hashlib.sha256)).decode() for key in self._keys]
        _require_match(wanted, [part.strip() for part in found.split(",")])


class JambonzVerifier:
    """Jambonz-Signature: `t=<seconds>,v1=<hex>`, HMAC-SHA256 over the time, a dot and the body.

    Source: the jambonz clients for Node.js and Python; there may be several v1.
    """

    def __init__(self, secrets: Sequence[str], *, tolerance: float = TOLERANCE) -> None:
        self._keys = check_secrets(secrets)
        self._tolerance = tolerance

    def check(self, request: SignedRequest, now: float) -> None:
        """See Verifier."""
        parts = [
            part.strip().split("=", 1) for part in require_header(request, "Jambonz-Signature").split(",")
        ]
        time = next((part[1] for part in parts if part[0] == "t" and len(part) > 1), "")
        check_time(time, now, self._tolerance)
        signed = time.encode() + b"." + request.body
        wanted = [hmac.digest(key, signed, hashlib.sha256).hex() for key in self._keys]
        _require_match(wanted, [part[1] for part in parts if part[0] == "v1" and len(part) > 1])


def check_secrets(secrets: Sequence[str]) -> tuple[bytes, ...]:
    """Return the secrets as bytes.

    Raises:
        StartupError: there is none, or an empty one, with which anybody could sign.
    """
    if not secrets or not all(secrets):
        raise StartupError("a vendor's secrets must be given, and none of them empty")
    return tuple(secret.encode() for secret in secrets)


def require_header(request: SignedRequest, name: str) -> str:
    """Return the header.

    Raises:
        WrongSignature: it is not there.
    """
    return _require_headers(request, name)[0]


def check_time(seconds: str, now: float, tolerance: float) -> None:
    """Return if *seconds*, the time of signing since 1970, is no more than *tolerance* from *now*.

    Raises:
        WrongSignature: it is farther, or no whole number.
    """
    if _SECONDS.fullmatch(seconds) is None:
        raise WrongSignature("the time of signing is no number of seconds")
    if not abs(now - int(seconds)) <= tolerance:
        raise WrongSignature("it was signed too long ago, or by a clock that is ahead of this one")


def _require_headers(request: SignedRequest, *names: str) -> list[str]:
    """Return those of the headers that are there, which must be one at least."""
    found = [request.headers[name] for name in names if name in request.headers]
    if not found:
        raise WrongSignature(f"there is no {' or '.join(names)}")
    return found


def _sign(key: bytes, message: str, algorithm: Callable[[], Any]) -> bytes:
    """aiohttp hands on bytes that are no UTF-8 as lone surrogates, which nobody has signed."""
    return hmac.digest(key, message.encode(errors="surrogatepass"), algorithm)


def _require_match(wanted: Sequence[str], found: Sequence[str]) -> None:
    sent = [text.encode(errors="surrogatepass") for text in found]
    if not any(hmac.compare_digest(one.encode(), other) for one in wanted for other in sent):
        raise WrongSignature("the signature is of another secret, URL or body")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise WrongSignature("the URL cannot be read") from None


def _spell_port(url: str) -> set[str]:
    """Return *url* with and without a port: Twilio signs either, whichever it was given."""
    parts = _split(url)
    bare = _PORT.sub("", parts.netloc)
    port = 443 if parts.scheme in _TLS else 80
    full = parts.netloc if _PORT.search(parts.netloc) else f"{bare}:{port}"
    return {url, *(url.replace(f"//{parts.netloc}", f"//{host}", 1) for host in (bare, full))}


def _signed_pairs(request: SignedRequest) -> list[tuple[str, str]]:
    """Return the fields that are signed one by one; a body that is no form must be signed by its digest."""
    if not request.body:
        return []
    if _is_form(request):
        return _read_form(request)
    query = parse_qsl(_split(request.url).query)
    digest = next((value for name, value in query if name == "bodySHA256"), "")
    _require_match([hashlib.sha256(request.body).hexdigest()], [digest])
    return []


def _is_form(request: SignedRequest) -> bool:
    return media_type_of(request.headers.get("Content-Type", "")) == FORM


def _read_form(request: SignedRequest) -> list[tuple[str, str]]:
    try:
        return read_pairs(request.body)
    except WrongCallback as error:
        raise WrongSignature(str(error)) from None


def _spell_for_plivo(request: SignedRequest) -> str:
    """Return the URL with its query in order, and behind it the fields of the form in order."""
    if request.body and not _is_form(request):
        raise WrongSignature("only a form is signed")
    parts = _split(request.url)
    query = "&".join(
        f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))
    )
    fields = "".join(name + value for name, value in sorted(_read_form(request)))
    url = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if not query and not request.body:
        return url
    return f"{url}?{query}{'.' if query and request.body else ''}{fields}"
