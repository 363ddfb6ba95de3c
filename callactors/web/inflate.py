"""Bodies that come as gzip or deflate (RFC 9110, 8.4.1), inflated a bounded piece at a time.

aiohttp could do it, but what is left of a body that it cannot inflate ends in a traceback.
"""

import zlib
from typing import Final

from aiohttp import StreamReader, web

from callactors.errors import BrokenBody

_WINDOWS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS: Final = frozenset(_WINDOWS)
_PIECE: Final = 64 * 1024


def inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Return *body* inflated.

    Raises:
        BrokenBody: it is not what *encoding* says.
        HTTPRequestEntityTooLarge: it would have more than *limit* bytes.
    """
    inflater = zlib.decompressobj(_WINDOWS[encoding])
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise BrokenBody from None
    if len(inflated) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, len(inflated))
    if not inflater.eof or inflater.unused_data:
        raise BrokenBody
    return inflated


class InflatedReader:
    """Reads *body* inflated, in pieces of at most 64 KiB."""

    def __init__(self, body: StreamReader, encoding: str) -> None:
        self._body = body
        self._inflater = zlib.decompressobj(_WINDOWS[encoding])

    async def read(self, size: int) -> bytes:
        """Return what comes next, at most *size* bytes; b"" at the end.

        Raises:
            BrokenBody: it is not what its encoding says.
        """
        while True:
            data = self._inflater.unconsumed_tail or await self._body.readany()
            if not data and self._inflater.eof:
                return b""
            if not data or self._inflater.eof:
                raise BrokenBody
            try:
                inflated = self._inflater.decompress(data, min(size, _PIECE))
            except zlib.error:
                raise BrokenBody from None
            if inflated:
                return inflated
