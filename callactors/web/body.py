"""Bodies that are read as a whole, in a bounded time."""

import asyncio

from aiohttp import hdrs, web

from callactors.errors import BrokenBody, SlowBody, UnsupportedMediaType
from callactors.web.inflate import ENCODINGS, inflate
from callactors.web.limits import get_limits


async def read_body(request: web.Request) -> bytes:
    """Return the body of *request*, inflated if it is compressed and that is allowed.

    Raises:
        BrokenBody, SlowBody, UnsupportedMediaType, HTTPRequestEntityTooLarge: it cannot be had.
    """
    encoding = find_encoding(request)
    try:
        body = await (request.read() if request.content.is_eof() else _read_slowly(request))
    except (ConnectionError, web.RequestPayloadError):
        raise BrokenBody from None
    return body if encoding is None else inflate(body, encoding, request.client_max_size)


def find_encoding(request: web.Request) -> str | None:
    """Return how the body is compressed, None if it is not.

    Raises:
        UnsupportedMediaType: it is, in a way that nobody inflates here.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is not None and not (get_limits(request).is_compression_allowed and encoding in ENCODINGS):
        raise UnsupportedMediaType
    return encoding


async def _read_slowly(request: web.Request) -> bytes:
    """Read a body that has not come as a whole with its head."""
    timeout = get_limits(request).body_timeout
    try:
        async with asyncio.timeout(timeout):
            return await request.read()
    except TimeoutError:
        raise SlowBody(timeout) from None
