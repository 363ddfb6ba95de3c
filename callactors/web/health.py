"""Liveness, readiness, and the page that says what this is."""

import json
from typing import Any, Final

from aiohttp import web

from callactors.errors import Unavailable
from callactors.web.keys import get_system
from callactors.web.problems import answering
from callactors.web.supervisor import SUPERVISORS

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>callactors</title>
<h1>callactors</h1>
<p>A call-processing server: each live call is one actor, and a 202 means that the packet is stored.</p>
<ul>
<li><code>POST v1/call/stream/{call_id}</code> with
<code>{"sequence": 1, "data": "...", "timestamp": 1.23}</code> stores a packet.</li>
<li><code>POST v1/call/complete/{call_id}</code> ends the call.</li>
<li><code>GET v1/call/{call_id}</code> tells what is stored of it.</li>
<li>WebSocket <code>ws/supervisor</code> tells every state transition as it happens.</li>
<li><a href="health">health</a> and <a href="ready">ready</a> are for load balancers.</li>
</ul>
</html>
"""


async def health(request: web.Request) -> web.Response:
    """Say whether the process works; if not, restart it."""
    failed = get_system(request).failed
    return _respond(200 if failed is None else 503, {"status": failed or "ok"})


@answering
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


async def home(_: web.Request) -> web.Response:
    """Say what this is."""
    policy = {"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"}
    return web.Response(text=_PAGE, content_type="text/html", headers=policy)


def _respond(status: int, body: dict[str, Any]) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")
