"""Signatures of requests, by the Standard Webhooks specification (standardwebhooks.com, version 1.0)."""

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import AsyncIterable, Iterable, Mapping
from hashlib import sha256
from typing import Final

_PREFIX: Final = "whsec_"
_LEAST: Final = 24  # bytes
_LENGTH: Final = 32


def read_secret(text: str) -> bytes:
    """Return the secret in *text*, `whsec_` and base64 of at least 24 bytes.

    Raises:
        ValueError: it is none.
    """
    if text.startswith(_PREFIX):
        try:
            secret = b64decode(text.removeprefix(_PREFIX), validate=True)
        except ValueError:
            secret = b""
        if len(secret) >= _LEAST:
            return secret
    raise ValueError("write a secret as whsec_ and the base64 of 24 random bytes or more")


def make_secret() -> str:
    """Return a new secret, as `read_secret` reads it."""
    return _PREFIX + b64encode(secrets.token_bytes(_LENGTH)).decode()


async def sign(
    secret: bytes, message_id: str, timestamp: int, body: AsyncIterable[bytes]
) -> Mapping[str, str]:
    """Return the headers that sign *body*, which is read to its end."""
    mac = _begin(secret, message_id, timestamp)
    async for piece in body:
        mac.update(piece)
    return _headers(message_id, timestamp, [mac])


def sign_whole(signing: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """Return the headers that sign *body* with each of the secrets in *signing*."""
    macs = [_begin(secret, message_id, timestamp) for secret in signing]
    for mac in macs:
        mac.update(body)
    return _headers(message_id, timestamp, macs)


def _begin(secret: bytes, message_id: str, timestamp: int) -> hmac.HMAC:
    return hmac.new(secret, f"{message_id}.{timestamp}.".encode(), sha256)


def _headers(message_id: str, timestamp: int, macs: Iterable[hmac.HMAC]) -> Mapping[str, str]:
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{b64encode(mac.digest()).decode()}" for mac in macs),
    }
