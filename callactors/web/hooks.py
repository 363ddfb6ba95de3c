"""Callbacks of vendors: what became of a call, in their own words."""

from http import HTTPStatus

from aiohttp import hdrs, web

from callactors.errors import InvalidCallback
from callactors.messages import TellStatus
from callactors.vendors.steps import WrongCallback
from callactors.web.body import read_body
from callactors.web.guard import GRANT, get_guard
from callactors.web.keys import get_calls


async def hook(request: web.Request) -> web.Response:
    """Put what a vendor tells of a call on its timeline, and end the call if that is what it says."""
    from callactors.vendors.callbacks import VENDORS, read_callback  # noqa: PLC0415  only for who is called back

    vendor = request.match_info["vendor"]
    if vendor not in VENDORS:
        raise web.HTTPNotFound
    body = await read_body(request)
    try:
        status = read_callback(vendor, request.headers.get(hdrs.CONTENT_TYPE, ""), body)
    except WrongCallback as error:
        raise InvalidCallback(vendor, str(error)) from None
    if status is not None:
        request[GRANT].check([status.call_id])
        get_guard(request).count_call(request, status.call_id)
        detail = {"vendor": status.vendor, "status": status.status, "told": dict(status.detail)}
        await get_calls(request).hear(status.call_id, TellStatus(status.key, detail, status.ends))
    return web.Response(status=HTTPStatus.NO_CONTENT)
