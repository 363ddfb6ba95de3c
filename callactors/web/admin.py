"""What administrators do: erase calls, and read the audit."""

from http import HTTPStatus

from aiohttp import web

from callactors.packets import check_call_id
from callactors.store.audit import read_audit
from callactors.store.summaries import tell_time
from callactors.web.guard import GRANT
from callactors.web.keys import get_system
from callactors.web.parameters import AuditQuery, NoQuery, read_query
from callactors.web.replies import json_response


async def erase(request: web.Request) -> web.Response:
    """Erase a call; 202 also for every repetition."""
    call_id = check_call_id(request.match_info["call_id"])
    read_query(request, NoQuery)
    erased = await get_system(request).erase(call_id, request[GRANT].name)
    status = "erased" if erased.is_scrubbed else "erasing"
    told = {"status": status, "call_id": call_id, "erased_at": tell_time(erased.at)}
    return json_response(told, HTTPStatus.ACCEPTED)


async def audit(request: web.Request) -> web.Response:
    """Tell who did what, the newest first."""
    query = read_query(request, AuditQuery)
    request[GRANT].check_all()
    async with get_system(request).reading() as connection:
        lines = await read_audit(connection, before=query.before, limit=query.limit + 1)
    shown = lines[: query.limit]
    return json_response({"audit": shown, "next": shown[-1]["number"] if len(lines) > len(shown) else None})
