"""How much of anything one client may take."""

from dataclasses import dataclass
from typing import Final

from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the front; times in seconds.

    *body_timeout* is for a body of one packet or complete and for one line of NDJSON, from when it has begun;
    *silence_timeout* is how long nothing may come of a body of NDJSON. *refusals* are how many requests may
    be told at once, in a second, that they are wrong; those beyond are told later. *key_busy* is how many
    requests and sockets of one key may be under way, *key_new_calls* how many calls it may begin, or bring
    back into memory, in a second. *is_compression_allowed* lets bodies come as gzip or deflate; the app's
    runner must leave them as they are then, with auto_decompress=False.
    """

    body_timeout: float = 10.0
    silence_timeout: float = 300.0
    refusals: float = 500.0
    supervisors: int = 5_000
    key_busy: int = 10_000
    key_new_calls: float = 1_000.0
    is_compression_allowed: bool = False


LIMITS: Final = web.AppKey("callactors_limits", Limits)


def get_limits(request: web.Request) -> Limits:
    """Return the limits for *request*, also from within a sub-app."""
    limits = request.app.get(LIMITS)
    return request.config_dict[LIMITS] if limits is None else limits
