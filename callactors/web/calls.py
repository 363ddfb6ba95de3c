"""The read side."""

import json
from datetime import datetime
from typing import Any

from aiohttp import web

from callactors.packets import check_call_id
from callactors.store.calls import StoredCall
from callactors.web.keys import get_system
from callactors.web.problems import answering


@answering
async def call(request: web.Request) -> web.Response:
    """Tell what is committed of one call."""
    call_id = check_call_id(request.match_info["call_id"])
    stored = await get_system(request).read(call_id)
    return web.Response(body=json.dumps(_present(stored)).encode(), content_type="application/json")


def _present(stored: StoredCall) -> dict[str, Any]:
    known, facts, columns = stored.call, stored.call.facts, stored.columns
    return {
        "call_id": known.call_id,
        "state": facts.state,
        "version": facts.version,
        "generation": facts.generation,
        "attempt": facts.attempt,
        "attempt_running": facts.is_attempting,
        "crashes": facts.crashes,
        "end_reason": facts.end_reason,
        "packets": known.packets,
        "late": known.late,
        "duplicates": known.duplicates,
        "streams": {
            name: {"highest": stream.next - 1, "missing": list(stream.gaps)}
            for name, stream in known.streams.items()
        },
        **{name: _present_value(value) for name, value in columns.items()},
    }


def _present_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value
