"""What administrators do: erase, retry and cancel calls, and read the audit."""

import asyncio
from http import HTTPStatus

from aiohttp import web

from callactors.errors import CallError, Unavailable
from callactors.packets import check_call_id
from callactors.states import CallState
from callactors.store.audit import read_audit
from callactors.store.listing import Filters, Sort, read_page
from callactors.store.summaries import tell_time
from callactors.system import CallSystem
from callactors.web.guard import GRANT
from callactors.web.keys import get_calls
from callactors.web.parameters import AuditQuery, NoQuery, RetryQuery, read_query
from callactors.web.replies import json_response


async def erase(request: web.Request) -> web.Response:
    """Erase a call; 202 also for every repetition."""
    call_id = check_call_id(request.match_info["call_id"])
    read_query(request, NoQuery)
    erased = await get_calls(request).erase(call_id, request[GRANT].name)
    status = "erased" if erased.is_scrubbed else "erasing"
    told = {"status": status, "call_id": call_id, "erased_at": tell_time(erased.at)}
    return json_response(told, HTTPStatus.ACCEPTED)


async def retry(request: web.Request) -> web.Response:
    """Let the AI step of a failed call run again, with attempts from 1."""
    call_id = check_call_id(request.match_info["call_id"])
    read_query(request, NoQuery)
    system = get_calls(request)
    generation = await system.retry(call_id)
    await system.note(request[GRANT].name, "call retried", call_id, {"generation": generation})
    told = {"status": "accepted", "call_id": call_id, "generation": generation}
    return json_response(told, HTTPStatus.ACCEPTED)


async def cancel(request: web.Request) -> web.Response:
    """End a live call in FAILED, whatever it is at; an attempt that runs is cancelled."""
    call_id = check_call_id(request.match_info["call_id"])
    read_query(request, NoQuery)
    system = get_calls(request)
    await system.cancel(call_id)
    await system.note(request[GRANT].name, "call canceled", call_id, {})
    return json_response({"status": "accepted", "call_id": call_id}, HTTPStatus.ACCEPTED)


async def retry_many(request: web.Request) -> web.Response:
    """Let the AI step of many failed calls run again: some at a time, go on with the cursor."""
    query = read_query(request, RetryQuery)
    request[GRANT].check_all()
    system, is_dry = get_calls(request), query.dry_run == "true"
    filters = Filters([CallState.FAILED], query.end_reason, None, query.since, query.until, None)
    async with system.reading() as connection:
        page = await read_page(connection, filters, Sort.START, limit=query.limit, after=query.cursor)
    retried = 0
    if not is_dry:
        asked = (_retry_if_failed(system, call["call_id"]) for call in page.calls)
        retried = sum(await asyncio.gather(*asked))
        await system.note(request[GRANT].name, "calls retried", None, {"calls": retried})
    cursor = None if page.next is None else str(page.next)
    told = {"matched": len(page.calls), "retried": retried, "dry_run": is_dry, "cursor": cursor}
    return json_response(told, HTTPStatus.ACCEPTED)


async def _retry_if_failed(system: CallSystem, call_id: str) -> bool:
    try:
        await system.retry(call_id)
    except (CallError, Unavailable):  # somebody else was faster, or it stays FAILED: it is found again
        return False
    return True


async def audit(request: web.Request) -> web.Response:
    """Tell who did what, the newest first."""
    query = read_query(request, AuditQuery)
    request[GRANT].check_all()
    async with get_calls(request).reading() as connection:
        lines = await read_audit(connection, before=query.before, limit=query.limit + 1)
    shown = lines[: query.limit]
    return json_response({"audit": shown, "next": shown[-1]["number"] if len(lines) > len(shown) else None})
