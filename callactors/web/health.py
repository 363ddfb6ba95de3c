"""Liveness and readiness."""

import json
from typing import Any

from aiohttp import web

from callactors.errors import Unavailable
from callactors.web.keys import get_system
from callactors.web.supervisor import SUPERVISORS


async def health(request: web.Request) -> web.Response:
    """Say whether the process works; if not, restart it."""
    failed = get_system(request).failed
    return _respond(200 if failed is None else 503, {"status": failed or "ok"})


async def ready(request: web.Request) -> web.Response:
    """Say whether packets are welcome here."""
    system = get_system(request)
    detail: dict[str, Any] = {
        "resident_calls": system.resident,
        "storage_lag": round(system.storage_lag, 3),
        "supervisors": system.hub.count(SUPERVISORS),
        "supervisors_cut_off": system.feed.cut_off,
        "feed_lag": round(system.feed.lag, 3),
        "events_come_late": system.feed.trouble,
    }
    try:
        system.admit()
        await system.ping()
        if system.feed.trouble == "held-back":
            detail["held_back_by"] = await system.feed.find_holder()
    except Unavailable as error:
        return _respond(503, {"status": str(error), **detail})
    return _respond(200, {"status": "ok", **detail})


def _respond(status: int, body: dict[str, Any]) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")
