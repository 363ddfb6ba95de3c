"""What each handler takes and answers: for the description of the API, and only loaded for that."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from aiohttp import web
from pydantic import BaseModel

from callactors import errors
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
    scrape,
    supervisor,
)
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
from callactors.web.problems import Handler
from callactors.web.watch import Watch

Model = type[BaseModel]
Failure = type[errors.CallactorsError] | type[web.HTTPError]


class Frames(NamedTuple):
    """What either side of a WebSocket may send."""

    client: Sequence[Model]
    server: Sequence[Model]


class Description(NamedTuple):
    """What a handler takes and answers; its docstring tells the rest.

    *answers* has for each status the models of JSON, or other media types; *bodies* the models by media type.
    *problems* are the handler's own: those of the guard, the call id, the query and the body come by
    themselves.
    """

    answers: Mapping[int, Sequence[Model | str]] = MappingProxyType({})
    problems: Sequence[Failure] = ()
    query: Model | None = None
    bodies: Mapping[str, Model] = MappingProxyType({})
    frames: Frames | None = None


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


def _media(query: Model) -> Description:
    """Describe a vendor's stream; what it sends is the vendor's to describe."""
    return Description(query=query, problems=(errors.NotSigned,), frames=Frames((), ()))


def _file(*media_types: str, problems: Sequence[Failure] = ()) -> Description:
    return Description({200: media_types, 304: ()}, problems)


DESCRIPTIONS: Final[Mapping[Handler, Description]] = {
    ingest.stream: Description(
        answers={202: (answers.AcceptedPacket, answers.AcceptedLines)},
        problems=(*_NOT_TAKEN, errors.TooManyNewCalls, *_NOT_STORED),
        bodies={_JSON: Packet, _LINES: Packet},
    ),
    ingest_socket.stream_socket: Description(problems=(errors.TooManyNewCalls,), frames=_IN_FRAMES),
    ingest.complete: Description(
        answers={202: (answers.CompletedCall,)},
        problems=(*_GONE, *_NOT_STORED),
        bodies={_JSON: CompleteRequest},
    ),
    calls.list_calls: Description(
        answers={200: (answers.CallPage,)},
        problems=_NOT_READ,
        query=CallsQuery,
    ),
    calls.call: Description(
        answers={200: (answers.CallInDetail,)},
        problems=(*_GONE, *_NOT_STORED),  # the call's actor is asked
    ),
    admin.erase: Description(
        answers={202: (answers.ErasedCall,)},
        problems=(errors.UnknownCall, errors.Overloaded, errors.Draining, *_NOT_READ, errors.StorageRefused),
        query=NoQuery,
    ),
    admin.retry: Description(
        answers={202: (answers.RetriedCall,)},
        problems=(*_GONE, errors.CallNotFailed, *_NOT_STORED),
        query=NoQuery,
    ),
    admin.cancel: Description(
        answers={202: (answers.CanceledCall,)},
        problems=(*_GONE, errors.CallEnded, *_NOT_STORED),
        query=NoQuery,
    ),
    admin.retry_many: Description(
        answers={202: (answers.RetriedCalls,)},
        problems=(errors.Draining, *_NOT_READ),
        query=RetryQuery,
    ),
    calls.events: Description(
        answers={200: (answers.EventPage,)},
        problems=(*_GONE, *_NOT_READ, *_OF_STREAM),
        query=EventsQuery,
    ),
    calls.packets: Description(
        answers={200: (answers.PacketPage,)},
        problems=(*_GONE, *_NOT_READ, *_OF_STREAM),
        query=PacketsQuery,
    ),
    calls.stats: Description(answers={200: (answers.Figures,)}, problems=_NOT_READ, query=NoQuery),
    admin.audit: Description(answers={200: (answers.AuditPage,)}, problems=_NOT_READ, query=AuditQuery),
    supervisor.supervisor: Description(problems=(errors.Overloaded,), query=Watch, frames=_WATCH_FRAMES),
    media.binary_media: _media(BinaryMediaQuery),
    media.media: _media(MediaQuery),
    hooks.hook: Description(
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
    ),
    health.health: Description(answers={200: (answers.Status,), 503: (answers.Status,)}),
    health.ready: Description(
        answers={
            200: (answers.StatusInDetail, answers.Status),
            503: (answers.StatusInDetail, answers.Status),
        },
    ),
    scrape.metrics: Description(answers={200: ("text/plain",)}),
    docs.openapi: _file(_JSON),
    docs.documentation: _file("text/html"),
    docs.documentation_file: _file(_SCRIPT, _STYLE, problems=(web.HTTPNotFound,)),
    dashboard.page: _file("text/html"),
    dashboard.file: _file(_SCRIPT, _STYLE, "image/svg+xml", problems=(web.HTTPNotFound,)),
}
