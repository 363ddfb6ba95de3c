"""Spans of requests."""

from functools import wraps

from aiohttp import web

from callactors import tracing
from callactors.web.keys import get_calls
from callactors.web.problems import Handler


def traced(handler: Handler, route: str) -> Handler:
    """Wrap *handler* of *route* so that each request has a span, if somebody takes spans."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        if not get_calls(request).is_traced:
            return await handler(request)
        call_id = request.match_info.get("call_id")
        with tracing.requested(route, request.headers, call_id) as tell:
            response = await handler(request)
            tell("http.response.status_code", response.status)
            return response

    return answer
