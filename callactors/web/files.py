"""Files that are read once and sent with headers that let nothing else in."""

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from aiohttp import web

POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class File(NamedTuple):
    """What is sent; *etag* changes with it."""

    content: bytes
    content_type: str
    etag: str


def make_file(content: bytes, content_type: str) -> File:
    return File(content, content_type, hashlib.sha256(content).hexdigest()[:32])


def make_headers(policy: str = POLICY) -> Mapping[str, str]:
    """Return the headers of files that need *policy*, a Content-Security-Policy."""
    return {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def send(request: web.Request, file: File, headers: Mapping[str, str]) -> web.Response:
    """Return *file*, or a 304 if the client has it."""
    if any(tag.value in (file.etag, "*") for tag in request.if_none_match or ()):
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(body=file.content, headers=headers)
        response.content_type = file.content_type
        if file.content_type.startswith("text/") or file.content_type.endswith("xml"):
            response.charset = "utf-8"
    response.etag = file.etag
    return response
