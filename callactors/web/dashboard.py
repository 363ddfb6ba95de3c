"""The supervisors' page: its files are read once, and come with a policy that lets nothing else in."""

import hashlib
from importlib.resources import files
from pathlib import PurePath
from typing import Final, NamedTuple

from aiohttp import web

_INDEX: Final = "index.html"
_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _File(NamedTuple):
    content: bytes
    content_type: str
    etag: str


def _read() -> dict[str, _File]:
    found = {}
    for source in files("callactors.web").joinpath("dashboard").iterdir():
        content_type = _TYPES.get(PurePath(source.name).suffix)
        if content_type is not None:
            content = source.read_bytes()
            found[source.name] = _File(content, content_type, hashlib.sha256(content).hexdigest()[:32])
    return found


_FILES: Final = _read()


async def page(request: web.Request) -> web.Response:
    """Show the calls."""
    return _respond(request, _FILES[_INDEX])


async def file(request: web.Request) -> web.Response:
    """Send one of the page's files; the page itself only where its relative links lead somewhere."""
    name = request.match_info["name"]
    if name == _INDEX or name not in _FILES:
        raise web.HTTPNotFound
    return _respond(request, _FILES[name])


def _respond(request: web.Request, found: _File) -> web.Response:
    if any(tag.value in (found.etag, "*") for tag in request.if_none_match or ()):
        response = web.Response(status=304, headers=_HEADERS)
    else:
        response = web.Response(body=found.content, headers=_HEADERS)
        response.content_type = found.content_type
        response.charset = "utf-8"
    response.etag = found.etag
    return response
