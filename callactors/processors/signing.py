"""Signatures of requests, by the Standard Webhooks specification (standardwebhooks.com, version 1.0)."""

import hmac
from base64 import b64decode, b64encode
from collections.abc import AsyncIterable, Mapping
from hashlib import sha256
from typing import Final

_PREFIX: Final = "whsec_"
_LEAST: Final = 24  # bytes


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


async def sign(
    secret: bytes, message_id: str, timestamp: int, body: AsyncIterable[bytes]
) -> Mapping[str, str]:
    """Return the headers that sign *body*, which is read to its end."""
    mac = hmac.new(secret, f"{message_id}.{timestamp}.".encode(), sha256)
    async for piece in body:
        mac.update(piece)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{b64encode(mac.digest()).decode()}",
    }
