"""The table of routes: what there is, and which scopes open it."""

from typing import Final, NamedTuple

from aiohttp import hdrs, web

from callactors.access import Scope
from callactors.web import calls, dashboard, health, ingest, ingest_socket, supervisor
from callactors.web.guard import guarded
from callactors.web.problems import Handler, answering


class Route(NamedTuple):
    """A route; *opens* are the scopes that do, None if it is open to all."""

    method: str
    path: str
    handler: Handler
    opens: frozenset[Scope] | None

    def make(self) -> web.RouteDef:
        handler = self.handler if self.opens is None else guarded(self.handler, self.opens)
        if self.method == hdrs.METH_GET:
            return web.get(self.path, answering(handler), allow_head=self.path not in _NO_HEAD)
        return web.route(self.method, self.path, answering(handler))


_STREAM: Final = "/v1/call/stream/{call_id}"
_NO_HEAD: Final = frozenset({_STREAM})
_INGEST: Final = frozenset({Scope.INGEST})
_SUPERVISE: Final = frozenset({Scope.SUPERVISE})

ROUTES: Final = (
    Route("POST", _STREAM, ingest.stream, _INGEST),
    Route("GET", _STREAM, ingest_socket.stream_socket, _INGEST),
    Route("POST", "/v1/call/complete/{call_id}", ingest.complete, _INGEST),
    Route("GET", "/v1/calls", calls.list_calls, _SUPERVISE),
    Route("GET", "/v1/call/{call_id}", calls.call, _SUPERVISE),
    Route("GET", "/v1/call/{call_id}/events", calls.events, _SUPERVISE),
    Route("GET", "/v1/call/{call_id}/packets", calls.packets, _SUPERVISE),
    Route("GET", "/v1/stats", calls.stats, _SUPERVISE),
    Route("GET", "/ws/supervisor", supervisor.supervisor, _SUPERVISE),
    Route("GET", "/health", health.health, None),
    Route("GET", "/ready", health.ready, None),
    Route("GET", "/", dashboard.page, None),
    Route("GET", "/dashboard/{name}", dashboard.file, None),
)
