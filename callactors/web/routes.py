"""The table of routes: what there is, which scopes open it, and what it takes and answers."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from aiohttp import hdrs, web
from pydantic import BaseModel

from callactors import errors
from callactors.access import Scope
from callactors.packets import CompleteRequest, Packet
from callactors.web import (
    admin,
    answers,
    calls,
    dashboard,
    docs,
    frames,
    health,
    hooks,
    ingest,
    ingest_socket,
    media,
    metrics,
    supervisor,
)
from callactors.web.guard import guarded
from callactors.web.parameters import (
    AuditQuery,
    BinaryMediaQuery,
    CallsQuery,
    EventsQuery,
    MediaQuery,
    NoQuery,
    PacketsQuery,
    RetryQuery,
)
from callactors.web.problems import Handler, answering
from callactors.web.traced import traced
from callactors.web.vendor_access import guarded_for_vendors
from callactors.web.watch import Watch

Model = type[BaseModel]
Failure = type[errors.CallactorsError] | type[web.HTTPError]


class Frames(NamedTuple):
    """What either side of a WebSocket may send."""

    client: Sequence[Model]
    server: Sequence[Model]


class Route(NamedTuple):
    """A route; *opens* are the scopes that do, None if it is open to all. Vendors have ways in of their own.

    The rest is for its description, as the handler's docstring is. *answers* has for each status the models
    of JSON, or other media types; *bodies* the models by media type. *problems* are the handler's own: those
    of the guard, the call id, the query and the body come by themselves.
    """

    method: str
    path: str
    handler: Handler
    opens: frozenset[Scope] | None
    answers: Mapping[int, Sequence[Model | str]] = MappingProxyType({})
    problems: Sequence[Failure] = ()
    query: Model | None = None
    bodies: Mapping[str, Model] = MappingProxyType({})
    frames: Frames | None = None
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

_JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_SCRIPT: Final = "text/javascript"
_STYLE: Final = "text/css"
_NOT_TAKEN: Final = (
    errors.CallErased,
    errors.CallClosed,
    errors.CallFull,
    errors.SequenceConflict,
    errors.SequenceWindow,
    errors.TooManyStreams,
)
_NOT_STORED: Final = (
    errors.MailboxFull,
    errors.Overloaded,
    errors.Draining,
    errors.StorageUnavailable,
    errors.StorageRefused,
    errors.ActorFailed,
    errors.Fenced,
)
_GONE: Final = (errors.UnknownCall, errors.CallErased)
_NOT_READ: Final = (errors.StorageUnavailable,)
_OF_STREAM: Final = (errors.UpgradeRequired,)  # a call id "stream" leads to the WebSocket of another call
_IN_FRAMES: Final = Frames((Packet, frames.CompleteFrame), (frames.Ack, frames.Refused, frames.Completed))
_WATCH_FRAMES: Final = Frames(
    (frames.Subscribe,),
    (
        frames.Transition,
        frames.Attempt,
        frames.VendorStream,
        frames.VendorStatus,
        frames.Erased,
        frames.Snapshot,
        frames.CursorGap,
        frames.Bookmark,
        frames.Degraded,
        frames.Recovered,
        frames.AiStep,
        frames.Subscribed,
        frames.Bye,
    ),
)


def _media(path: str, handler: Handler, query: Model) -> Route:
    """Return the route of vendors' streams; what they send is theirs to describe."""
    return Route(
        "GET",
        path,
        handler,
        _INGEST,
        query=query,
        problems=(errors.NotSigned,),
        frames=Frames((), ()),
        is_for_vendors=True,
    )


def _hook(path: str, handler: Handler) -> Route:
    return Route(
        "POST",
        path,
        handler,
        _INGEST,
        answers={204: ()},
        problems=(
            errors.NotSigned,
            errors.InvalidCallback,
            errors.BrokenBody,
            errors.SlowBody,
            errors.UnsupportedMediaType,
            errors.CallErased,
            errors.TooManyNewCalls,
            *_NOT_STORED,
            web.HTTPNotFound,
        ),
        is_for_vendors=True,
    )


def _file(*media_types: str) -> Mapping[int, Sequence[Any]]:
    return {200: media_types, 304: ()}


ROUTES: Final = (
    Route(
        "POST",
        _STREAM,
        ingest.stream,
        _INGEST,
        answers={202: (answers.AcceptedPacket, answers.AcceptedLines)},
        problems=(*_NOT_TAKEN, errors.TooManyNewCalls, *_NOT_STORED),
        bodies={_JSON: Packet, _LINES: Packet},
    ),
    Route(
        "GET",
        _STREAM,
        ingest_socket.stream_socket,
        _INGEST,
        problems=(errors.TooManyNewCalls,),
        frames=_IN_FRAMES,
    ),
    Route(
        "POST",
        "/v1/call/complete/{call_id}",
        ingest.complete,
        _INGEST,
        answers={202: (answers.CompletedCall,)},
        problems=(*_GONE, *_NOT_STORED),
        bodies={_JSON: CompleteRequest},
    ),
    Route(
        "GET",
        "/v1/calls",
        calls.list_calls,
        _SUPERVISE,
        answers={200: (answers.CallPage,)},
        problems=_NOT_READ,
        query=CallsQuery,
    ),
    Route(
        "GET",
        "/v1/call/{call_id}",
        calls.call,
        _SUPERVISE,
        answers={200: (answers.CallInDetail,)},
        problems=(*_GONE, *_NOT_STORED),  # the call's actor is asked
    ),
    Route(
        "DELETE",
        "/v1/call/{call_id}",
        admin.erase,
        _ADMIN,
        answers={202: (answers.ErasedCall,)},
        problems=(errors.UnknownCall, errors.Overloaded, errors.Draining, *_NOT_READ, errors.StorageRefused),
        query=NoQuery,
    ),
    Route(
        "POST",
        "/v1/call/{call_id}/retry",
        admin.retry,
        _ADMIN,
        answers={202: (answers.RetriedCall,)},
        problems=(*_GONE, errors.CallNotFailed, *_NOT_STORED),
        query=NoQuery,
    ),
    Route(
        "POST",
        "/v1/call/{call_id}/cancel",
        admin.cancel,
        _ADMIN,
        answers={202: (answers.CanceledCall,)},
        problems=(*_GONE, errors.CallEnded, *_NOT_STORED),
        query=NoQuery,
    ),
    Route(
        "POST",
        "/v1/calls/retry",
        admin.retry_many,
        _ADMIN,
        answers={202: (answers.RetriedCalls,)},
        problems=(errors.Draining, *_NOT_READ),
        query=RetryQuery,
    ),
    Route(
        "GET",
        "/v1/call/{call_id}/events",
        calls.events,
        _SUPERVISE,
        answers={200: (answers.EventPage,)},
        problems=(*_GONE, *_NOT_READ, *_OF_STREAM),
        query=EventsQuery,
    ),
    Route(
        "GET",
        "/v1/call/{call_id}/packets",
        calls.packets,
        _SUPERVISE,
        answers={200: (answers.PacketPage,)},
        problems=(*_GONE, *_NOT_READ, *_OF_STREAM),
        query=PacketsQuery,
    ),
    Route(
        "GET",
        "/v1/stats",
        calls.stats,
        _SUPERVISE,
        answers={200: (answers.Figures,)},
        problems=_NOT_READ,
        query=NoQuery,
    ),
    Route(
        "GET",
        "/v1/audit",
        admin.audit,
        _ADMIN,
        answers={200: (answers.AuditPage,)},
        problems=_NOT_READ,
        query=AuditQuery,
    ),
    Route(
        "GET",
        "/ws/supervisor",
        supervisor.supervisor,
        _SUPERVISE,
        problems=(errors.Overloaded,),
        query=Watch,
        frames=_WATCH_FRAMES,
    ),
    _media(_BINARY_MEDIA, media.binary_media, BinaryMediaQuery),
    _media(_BINARY_MEDIA + "/{token}", media.binary_media, BinaryMediaQuery),
    _media(_MEDIA, media.media, MediaQuery),
    _media(_MEDIA + "/{token}", media.media, MediaQuery),
    _hook(_HOOK, hooks.hook),
    _hook(_HOOK + "/{token}", hooks.hook),
    Route(
        "GET",
        "/health",
        health.health,
        None,
        answers={200: (answers.Status,), 503: (answers.Status,)},
    ),
    Route(
        "GET",
        "/ready",
        health.ready,
        None,
        answers={
            200: (answers.StatusInDetail, answers.Status),
            503: (answers.StatusInDetail, answers.Status),
        },
    ),
    Route("GET", "/metrics", metrics.metrics, _OPERATE, answers={200: ("text/plain",)}),
    Route("GET", "/openapi.json", docs.openapi, None, answers=_file(_JSON)),
    Route("GET", "/docs", docs.documentation, None, answers=_file("text/html")),
    Route(
        "GET",
        "/docs/{name}",
        docs.documentation_file,
        None,
        answers=_file(_SCRIPT, _STYLE),
        problems=(web.HTTPNotFound,),
    ),
    Route("GET", "/", dashboard.page, None, answers=_file("text/html")),
    Route(
        "GET",
        "/dashboard/{name}",
        dashboard.file,
        None,
        answers=_file(_SCRIPT, _STYLE, "image/svg+xml"),
        problems=(web.HTTPNotFound,),
    ),
)
