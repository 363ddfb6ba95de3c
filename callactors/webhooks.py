"""Webhooks: what is told, to which URLs, and when again; by the Standard Webhooks specification 1.0."""

import re
from collections.abc import Callable
from enum import StrEnum
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

MAX_PAUSE: Final = 3_600.0
"""Seconds that an endpoint is left alone at most, whatever its Retry-After asks for."""

_WAITS: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
_JITTER: Final = 0.1
_MAX_WAIT: Final = 86_400.0
_URL: Final = re.compile(r"https?://[^/?#@\\\s]+([/?][^#\s]*)?")


class WebhookEvent(StrEnum):
    """The `type` of a message, by the state that a call has come to."""

    ARCHIVED = "call.archived"
    FAILED = "call.failed"

    @classmethod
    def of(cls, state: str) -> "WebhookEvent":
        """Return what is told when a call comes to *state*, in which it has ended."""
        return cls(f"call.{state.lower()}")


def next_wait(attempts: int, asked: float | None, rng: Callable[[], float]) -> float | None:
    """Return the seconds until the next attempt after so many that failed; None if that was the last.

    *asked* is what Retry-After said, and *rng* returns a number in [0, 1).
    """
    if attempts > len(_WAITS):
        return None
    wait = _WAITS[attempts - 1] * (1 + _JITTER * rng())
    return wait if asked is None else max(wait, min(asked, _MAX_WAIT))


def find_fault(url: str, *, is_private_allowed: bool) -> str | None:
    """Return why *url* cannot be an endpoint's, or None; to where its name leads is seen when it is asked."""
    if _URL.fullmatch(url) is None or not _has_host(url):
        return "write a URL as https://calls.example/hook, without a user, a password or a fragment"
    if url.startswith("http:") and not (is_private_allowed or is_loopback(url)):
        return "it must begin with https, unless CALLACTORS_WEBHOOK_ALLOW_PRIVATE is set"
    return None


def is_loopback(url: str) -> bool:
    """Whether *url* names this machine, by an address of it or as localhost."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65,535, half an address of IPv6
        return False
