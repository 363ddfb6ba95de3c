"""The answer to a packet, made as cheaply as it can be: on a busy server nothing is made more often."""

from collections.abc import Mapping
from email.utils import formatdate
from time import time
from typing import Any, Final

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11
from pydantic_core import to_json

_HEAD: Final = (
    "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %%d\r\n"
    f"Date: %s\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"
)


def accepted_response(request: web.Request, told: Mapping[str, Any]) -> web.StreamResponse:
    """Return a 202 with *told* as JSON; an ordinary response where an app could look at it or change it."""
    body = to_json(told)
    if request.version == HttpVersion11 and request.keep_alive and not _is_watched(request):
        return _Reply(body)
    return web.Response(body=body, status=202, content_type="application/json")


def _is_watched(request: web.Request) -> bool:
    return any(app.middlewares or app.on_response_prepare for app in request.match_info.apps)


class _Reply(web.StreamResponse):
    """Head and body in one write. aiohttp makes the same bytes in ten coroutines, a fifth of a 202's time."""

    keep_alive = True
    body_length = 0
    _head = b""
    _head_at = 0

    def __init__(self, body: bytes) -> None:
        super().__init__(status=202)
        self._text = body

    async def prepare(self, request: web.BaseRequest) -> None:
        whole = self._make_head() % len(self._text) + self._text
        self.body_length = len(whole)  # for the access log, which counts the head too
        await request.writer.write(whole)

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written."""

    @classmethod
    def _make_head(cls) -> bytes:
        now = int(time())
        if cls._head_at != now:
            cls._head_at, cls._head = now, (_HEAD % formatdate(now, usegmt=True)).encode()
        return cls._head
