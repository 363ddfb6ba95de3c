"""Whether a request was signed by Telnyx or Vonage, which takes the packages of the extra `telephony`."""

import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from callactors.errors import StartupError
from callactors.vendors.signatures import (
    TOLERANCE,
    JambonzVerifier,
    PlivoVerifier,
    SignedRequest,
    TwilioVerifier,
    Verifier,
    WrongSignature,
    check_secrets,
    check_time,
    require_header,
)

_TOKEN: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)  # PyJWT skips what is no base64


class TelnyxVerifier:
    """telnyx-signature-ed25519: Ed25519 over the time, a bar and the body, in base64.

    Source: Telnyx' page on webhooks. *secrets* are public keys in base64, as the portal shows them.

    Raises:
        StartupError: a key is none, or `cryptography` is not installed.
    """

    def __init__(self, secrets: Sequence[str], *, tolerance: float = TOLERANCE) -> None:
        try:
            from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  an extra
            from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415  an extra
                Ed25519PublicKey,
            )
        except ImportError:
            raise StartupError(_name_extra("cryptography", "Telnyx")) from None
        try:
            keys = [
                Ed25519PublicKey.from_public_bytes(b64decode(k, validate=True))
                for k in check_secrets(secrets)
            ]
        except ValueError:
            raise StartupError(
                "a public key of Telnyx must be 32 bytes in base64, as the portal shows it"
            ) from None
        self._keys, self._mismatch, self._tolerance = keys, InvalidSignature, tolerance

    def check(self, request: SignedRequest, now: float) -> None:
        """See Verifier."""
        time = require_header(request, "Telnyx-Timestamp")
        found = require_header(request, "Telnyx-Signature-Ed25519")
        check_time(time, now, self._tolerance)
        try:
            signature = b64decode(found, validate=True)
        except ValueError:
            raise WrongSignature("the signature is no base64") from None
        for key in self._keys:
            try:
                return key.verify(signature, f"{time}|".encode() + request.body)
            except self._mismatch:
                continue
        raise WrongSignature("the signature is of another key, time or body")


class VonageVerifier:
    """Authorization: Bearer, a JWT signed with HS256 whose `payload_hash` is the SHA-256 of the body.

    Source: Vonage's page on signed webhooks. Of the times in it, `iat` is the one that is looked at.

    Raises:
        StartupError: a secret is empty, or `PyJWT` is not installed.
    """

    def __init__(self, secrets: Sequence[str], *, tolerance: float = TOLERANCE) -> None:
        try:
            import jwt  # noqa: PLC0415  an extra
        except ImportError:
            raise StartupError(_name_extra("PyJWT", "Vonage")) from None
        self._decode, self._refusal = jwt.decode, jwt.PyJWTError
        self._keys, self._tolerance = check_secrets(secrets), tolerance

    def check(self, request: SignedRequest, now: float) -> None:
        """See Verifier."""
        scheme, _, token = require_header(request, "Authorization").partition(" ")
        if scheme.lower() != "bearer" or _TOKEN.fullmatch(token.strip()) is None:
            raise WrongSignature("the Authorization is no bearer token")
        claims = self._open(token.strip())
        check_time(str(claims["iat"]), now, self._tolerance)
        told = str(claims["payload_hash"]).encode(errors="surrogatepass")
        if not hmac.compare_digest(told, hashlib.sha256(request.body).hexdigest().encode()):
            raise WrongSignature("the token is of another body")

    def _open(self, token: str) -> Mapping[str, object]:
        """Return the claims; older PyJWT lets errors of json out, and its own clock is kept out of it."""
        for key in self._keys:
            try:
                return self._decode(
                    token,
                    key,
                    algorithms=["HS256"],
                    options={
                        "require": ["iat", "payload_hash"],
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_nbf": False,
                        "verify_aud": False,
                    },
                )
            except (self._refusal, ValueError, RecursionError):
                continue
        raise WrongSignature("the token is of another secret or algorithm, or lacks a claim")


def _name_extra(package: str, vendor: str) -> str:
    return f"{package} is not installed, which checks {vendor}'s signatures: install callactors[telephony]"


VERIFIERS: Final[Mapping[str, Callable[[Sequence[str]], Verifier]]] = {
    "twilio": TwilioVerifier,
    "texml": TelnyxVerifier,
    "signalwire": partial(TwilioVerifier, headers=("X-SignalWire-Signature", "X-Twilio-Signature")),
    "plivo": PlivoVerifier,
    "telnyx": TelnyxVerifier,
    "jambonz": JambonzVerifier,
    "vonage": VonageVerifier,
}
"""How to make a Verifier of a vendor's secrets, by the vendor's name in the URL."""
