"""Who may do what: scopes, grants, and the form of keys. Pure.

A key is `ca_<id>_<secret>`: the id is public, of the secret only its SHA-256 is kept.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from math import inf
from typing import Final, NamedTuple

from callactors.errors import CallNotAllowed

_KEY: Final = re.compile(r"ca_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Scope(StrEnum):
    """What a key opens."""

    INGEST = "ingest"
    SUPERVISE = "supervise"
    ADMIN = "admin"


EVERYTHING: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request may do: *name* is who asks, *prefix* what the ids of the calls must begin with.

    It ends at *until*, by the monotonic clock, and with its key, unless it is none that *ends*.
    """

    name: str
    scopes: frozenset[Scope]
    prefix: str = ""
    until: float = inf
    ends: bool = True

    def covers(self, call_id: str) -> bool:
        """Whether it is for the call *call_id*."""
        return call_id.startswith(self.prefix)

    def check_all(self) -> None:
        """Do nothing if it is for all calls.

        Raises:
            CallNotAllowed: it is not.
        """
        self.check([""])

    def check(self, call_ids: Iterable[str]) -> None:
        """Do nothing if it is for all of *call_ids*.

        Raises:
            CallNotAllowed: it is not.
        """
        if self.prefix and not all(map(self.covers, call_ids)):
            raise CallNotAllowed(self.prefix)


LOCAL: Final = Grant("local", EVERYTHING)
"""Of whoever asks while there are no keys, if that is allowed."""


class NewKey(NamedTuple):
    """A key that is to be shown once, and what is kept of it."""

    key_id: str
    digest: bytes
    text: str


def make_key() -> NewKey:
    """Return a new key."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return NewKey(key_id, hash_secret(secret), f"ca_{key_id}_{secret}")


def parse_key(text: str) -> tuple[str, str] | None:
    """Return the id and the secret in *text*, or None if it has not the form of a key."""
    found = _KEY.fullmatch(text)
    return None if found is None else (found[1], found[2])


def hash_secret(secret: str) -> bytes:
    """Return what is kept of *secret*: 256 random bits need no slow hash."""
    return sha256(secret.encode()).digest()


def mask_keys(text: str) -> str:
    """Return *text* with the secrets of keys taken out."""
    return _KEY.sub(r"ca_\1_***", text) if "ca_" in text else text
