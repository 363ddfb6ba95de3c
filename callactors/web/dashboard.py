"""The supervisors' page: its files are read once, and come with a policy that lets nothing else in."""

from functools import cache
from pathlib import Path
from typing import Final

from aiohttp import web

from callactors.web.files import File, make_file, make_headers, send

_FOLDER: Final = Path(__file__).with_name("dashboard")
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = make_headers()


@cache
def _read() -> dict[str, File]:
    found = {}
    for source in _FOLDER.iterdir():
        content_type = _TYPES.get(source.suffix)
        if content_type is not None:
            found[source.name] = make_file(source.read_bytes(), content_type)
    return found


async def page(request: web.Request) -> web.Response:
    """Show the calls."""
    return send(request, _read()[_INDEX], _HEADERS)


async def file(request: web.Request) -> web.Response:
    """Send one of the page's files; the page itself only where its relative links lead somewhere."""
    name = request.match_info["name"]
    if name == _INDEX or name not in _read():
        raise web.HTTPNotFound
    return send(request, _read()[name], _HEADERS)
