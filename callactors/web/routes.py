"""The table of routes: what there is, and which scopes open it; descriptions.py tells the rest."""

from typing import Final, NamedTuple

from aiohttp import hdrs, web

from callactors.access import Scope
from callactors.web import (
    admin,
    calls,
    dashboard,
    docs,
    health,
    hooks,
    ingest,
    ingest_socket,
    media,
    scrape,
    supervisor,
)
from callactors.web.guard import guarded
from callactors.web.problems import Handler, answering
from callactors.web.traced import traced
from callactors.web.vendor_access import guarded_for_vendors


class Route(NamedTuple):
    """A route; *opens* are the scopes that do, None if it is open to all.

    Vendors have ways in of their own.
    """

    method: str
    path: str
    handler: Handler
    opens: frozenset[Scope] | None
    is_for_vendors: bool = False

    def make(self, prefix: str) -> web.RouteDef:
        guard = guarded_for_vendors if self.is_for_vendors else guarded
        handler = self.handler if self.opens is None else guard(self.handler, self.opens)
        if self.method == hdrs.METH_GET:
            return web.get(prefix + self.path, answering(handler), allow_head=self.path not in _NO_HEAD)
        handler = traced(answering(handler), f"{self.method} {self.path}")
        return web.route(self.method, prefix + self.path, handler)


_STREAM: Final = "/v1/call/stream/{call_id}"
_MEDIA: Final = "/v1/media"
_BINARY_MEDIA: Final = "/v1/media/binary"
_HOOK: Final = "/v1/hooks/{vendor}"
_NO_HEAD: Final = frozenset(
    {_STREAM, *(path + token for path in (_MEDIA, _BINARY_MEDIA) for token in ("", "/{token}"))}
)
_INGEST: Final = frozenset({Scope.INGEST})
_SUPERVISE: Final = frozenset({Scope.SUPERVISE})
_ADMIN: Final = frozenset({Scope.ADMIN})
_OPERATE: Final = _SUPERVISE | _ADMIN

ROUTES: Final = (
    Route("POST", _STREAM, ingest.stream, _INGEST),
    Route("GET", _STREAM, ingest_socket.stream_socket, _INGEST),
    Route("POST", "/v1/call/complete/{call_id}", ingest.complete, _INGEST),
    Route("GET", "/v1/calls", calls.list_calls, _SUPERVISE),
    Route("GET", "/v1/call/{call_id}", calls.call, _SUPERVISE),
    Route("DELETE", "/v1/call/{call_id}", admin.erase, _ADMIN),
    Route("POST", "/v1/call/{call_id}/retry", admin.retry, _ADMIN),
    Route("POST", "/v1/call/{call_id}/cancel", admin.cancel, _ADMIN),
    Route("POST", "/v1/calls/retry", admin.retry_many, _ADMIN),
    Route("GET", "/v1/call/{call_id}/events", calls.events, _SUPERVISE),
    Route("GET", "/v1/call/{call_id}/packets", calls.packets, _SUPERVISE),
    Route("GET", "/v1/stats", calls.stats, _SUPERVISE),
    Route("GET", "/v1/audit", admin.audit, _ADMIN),
    Route("GET", "/ws/supervisor", supervisor.supervisor, _SUPERVISE),
    Route("GET", _BINARY_MEDIA, media.binary_media, _INGEST, is_for_vendors=True),
    Route("GET", _BINARY_MEDIA + "/{token}", media.binary_media, _INGEST, is_for_vendors=True),
    Route("GET", _MEDIA, media.media, _INGEST, is_for_vendors=True),
    Route("GET", _MEDIA + "/{token}", media.media, _INGEST, is_for_vendors=True),
    Route("POST", _HOOK, hooks.hook, _INGEST, is_for_vendors=True),
    Route("POST", _HOOK + "/{token}", hooks.hook, _INGEST, is_for_vendors=True),
    Route("GET", "/health", health.health, None),
    Route("GET", "/ready", health.ready, None),
    Route("GET", "/metrics", scrape.metrics, _OPERATE),
    Route("GET", "/openapi.json", docs.openapi, None),
    Route("GET", "/docs", docs.documentation, None),
    Route("GET", "/docs/{name}", docs.documentation_file, None),
    Route("GET", "/", dashboard.page, None),
    Route("GET", "/dashboard/{name}", dashboard.file, None),
)
