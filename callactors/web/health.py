"""Liveness and readiness."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from callactors.access import Scope
from callactors.errors import AccessError, Unavailable
from callactors.web.guard import get_guard
from callactors.web.keys import get_calls
from callactors.web.replies import json_response
from callactors.web.supervisor import SUPERVISORS


async def health(request: web.Request) -> web.Response:
    """Say whether the process works; if not, restart it."""
    failed = get_calls(request).failed
    return json_response({"status": failed or "ok"}, 200 if failed is None else 503)


async def ready(request: web.Request) -> web.Response:
    """Say whether packets are welcome here, and to supervisors also why."""
    system = get_calls(request)
    detail: dict[str, Any] = {
        "resident_calls": system.resident,
        "storage_lag": round(system.storage_lag, 3),
        "supervisors": system.hub.count(SUPERVISORS),
        "supervisors_cut_off": system.feed.cut_off,
        "feed_lag": round(system.feed.lag, 3),
        "events_come_late": system.feed.trouble,
        "ai_step": {
            "state": system.gate.state,
            "running": system.gate.running,
            "waiting": system.gate.waiting,
        },
    }
    if system.router is not None:
        detail["cluster"] = "joined" if system.router.is_up else "alone"
    try:
        system.admit()
        await system.ping()
        if system.feed.trouble == "held-back":
            detail["held_back_by"] = await system.feed.find_holder()
    except Unavailable as error:
        return await _tell(request, 503, str(error), detail)
    return await _tell(request, 200, "ok", detail)


async def _tell(request: web.Request, status: int, text: str, detail: Mapping[str, Any]) -> web.Response:
    try:
        await get_guard(request).admit(request, frozenset({Scope.SUPERVISE}))
    except AccessError:
        detail = {}
    return json_response({"status": text, **detail}, status)
