"""The read side."""

from typing import Any

from aiohttp import web

from callactors.packets import check_call_id
from callactors.sequence import StreamSequence
from callactors.store import history, listing
from callactors.store.calls import StoredCall
from callactors.store.summaries import count_missing, describe
from callactors.web.guard import GRANT
from callactors.web.keys import get_calls
from callactors.web.parameters import EventsQuery, NoQuery, PacketsQuery, read_calls_query, read_query
from callactors.web.replies import json_response
from callactors.web.sockets import has_gone


async def list_calls(request: web.Request) -> web.Response:
    """Tell of many calls, in pages."""
    query = read_calls_query(request)
    async with get_calls(request).reading_long() as connection:
        if has_gone(request):
            return web.Response()  # to nobody
        if query.call_id:
            named = await listing.read_named(connection, query.filters, query.call_id)
            return json_response({"calls": named, "cursor": None})
        page = await listing.read_page(
            connection, query.filters, query.order, limit=query.limit, after=query.cursor
        )
    return json_response({"calls": page.calls, "cursor": None if page.next is None else str(page.next)})


async def call(request: web.Request) -> web.Response:
    """Tell what is committed of one call."""
    system = get_calls(request)
    stored = await system.read(_call_id(request))
    return json_response({**_present(stored), "max_attempts": system.options.policy.max_attempts})


async def events(request: web.Request) -> web.Response:
    """Tell the events of one call, the oldest first."""
    system, call_id, query = get_calls(request), _call_id(request), read_query(request, EventsQuery)
    async with system.reading_long() as connection:
        if has_gone(request):
            return web.Response()
        part = await history.read_events(
            connection, system.feed.cursor.log_id, call_id, after=query.after, limit=query.limit
        )
    return json_response({"call_id": call_id, "events": part.lines, "next": part.next})


async def packets(request: web.Request) -> web.Response:
    """Give the packets of one stream of a call, in the order of their sequences."""
    call_id, query = _call_id(request), read_query(request, PacketsQuery)
    after = -1 if query.after is None else query.after  # a sequence 0 is taken too
    async with get_calls(request).reading_long() as connection:
        if has_gone(request):
            return web.Response()
        part = await history.read_packets(connection, call_id, query.stream, after=after, limit=query.limit)
    return json_response(
        {"call_id": call_id, "stream": query.stream, "packets": part.lines, "next": part.next}
    )


async def stats(request: web.Request) -> web.Response:
    """Tell the figures of all calls together."""
    read_query(request, NoQuery)
    request[GRANT].check_all()
    return json_response(await get_calls(request).stats.read())


def _call_id(request: web.Request) -> str:
    return check_call_id(request.match_info["call_id"])


def _present(stored: StoredCall) -> dict[str, Any]:
    known, columns = stored.call, stored.columns
    return {
        **describe(known, columns),
        "streams": {name: _present_stream(stream) for name, stream in known.streams.items()},
        **{name: columns[name] for name in ("metadata", "result", "last_error")},
    }


def _present_stream(stream: StreamSequence) -> dict[str, Any]:
    return {
        "highest": stream.next - 1,
        "missing": list(stream.gaps),
        "missing_count": count_missing(stream.gaps),
        "packets": stream.next - count_missing(stream.missing),
    }
