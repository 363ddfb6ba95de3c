"""The description of the API, and a page that shows it: Swagger UI from a wheel, or else a plain list."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiohttp import web

from callactors.web.files import POLICY, File, make_file, make_headers, send

_FOLDER: Final = Path(__file__).with_name("docs")
_WHEEL: Final = "aiohttp_apischema"  # found, not imported: only its copy of Swagger UI is wanted
_UI: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_START: Final = "start.js"
# Swagger UI has its icons in its style sheet.
_POLICY: Final = f"{POLICY}; img-src 'self' data:"
_HEADERS: Final = make_headers(_POLICY)
_PLAIN: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>callactors: the API</title>
<link rel="icon" href="dashboard/icon.svg" type="image/svg+xml"></head>
<body>
<h1>callactors: the API</h1>
<p><a href="openapi.json">openapi.json</a> describes it in full; with the extra <code>docs</code> installed,
this page is a Swagger UI.</p>
<table>
<tr><th>route</th><th>scope</th><th>what it does</th><th>answers</th></tr>
%s
</table>
</body>
</html>
"""


class Docs(NamedTuple):
    """What is served of the description."""

    document: File
    page: File


DOCS: Final[web.AppKey[Callable[[], Docs]]] = web.AppKey("callactors_docs")
"""Makes them, when they are first asked for."""


@cache
def _read_ui() -> dict[str, File]:
    """Return the files of Swagger UI and what starts it; none where the wheel is not installed."""
    spec = find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "swagger-ui"
    if not all((folder / name).is_file() for name in _UI):  # another version of the wheel
        return {}
    found = {name: make_file((folder / name).read_bytes(), kind) for name, kind in _UI.items()}
    return {**found, _START: make_file((_FOLDER / _START).read_bytes(), "text/javascript")}


def make_docs(description: Mapping[str, Any]) -> Docs:
    """Return what to serve of *description*, an OpenAPI document."""
    document = json.dumps(description, separators=(",", ":")).encode()
    page = (_FOLDER / "index.html").read_bytes() if _read_ui() else make_plain_page(description).encode()
    return Docs(make_file(document, "application/json"), make_file(page, "text/html"))


def make_plain_page(description: Mapping[str, Any]) -> str:
    """Return a page that lists the routes in *description*."""
    return _PLAIN % "\n".join(_make_rows(description["paths"]))


async def openapi(request: web.Request) -> web.Response:
    """Describe the API: this document."""
    return send(request, (await _get_docs(request)).document, _HEADERS)


async def documentation(request: web.Request) -> web.Response:
    """Show the API, to be tried out."""
    return send(request, (await _get_docs(request)).page, _HEADERS)


async def documentation_file(request: web.Request) -> web.Response:
    """Send one of the files of the page that shows the API."""
    found = _read_ui().get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    return send(request, found, _HEADERS)


async def _get_docs(request: web.Request) -> Docs:
    return await asyncio.to_thread(request.config_dict[DOCS])  # the first time calls would wait for them


def _make_rows(paths: Mapping[str, Any]) -> Iterator[str]:
    for path, operations in paths.items():
        for method, operation in operations.items():
            scopes = [scope for way in operation["security"] for names in way.values() for scope in names]
            cells = (
                f"<code>{method.upper()} {escape(path)}</code>",
                escape(" or ".join(scopes) or "none"),
                escape(operation["summary"]),
                escape(" ".join(operation["responses"])),
            )
            yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
