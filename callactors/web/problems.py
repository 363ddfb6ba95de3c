"""The one place where an error becomes an answer: RFC 9457 problem details."""

import functools
import json
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias

from aiohttp import web

from callactors.access import mask_keys
from callactors.errors import (
    ActorFailed,
    ActorStopped,
    BrokenBody,
    CallactorsError,
    CallClosed,
    CallEnded,
    CallErased,
    CallFull,
    CallNotAllowed,
    CallNotFailed,
    DataTooLong,
    Draining,
    DuplicateKey,
    Fenced,
    ForeignOrigin,
    InsufficientScope,
    InvalidCallback,
    InvalidCallId,
    InvalidFields,
    InvalidJson,
    InvalidText,
    InvalidUtf8,
    JsonTooDeep,
    KeyBusy,
    LineTooLong,
    MailboxFull,
    Misdirected,
    NotSigned,
    Overloaded,
    SequenceConflict,
    SequenceWindow,
    SlowBody,
    StorageRefused,
    StorageUnavailable,
    TooManyNewCalls,
    TooManyStreams,
    Unauthorized,
    Unavailable,
    UnknownCall,
    UnsupportedCharset,
    UnsupportedMediaType,
    UpgradeRequired,
)
from callactors.web.pacing import pace
from callactors.web.replies import quick_response

_PROBLEM: Final = "application/problem+json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ProblemCounts: TypeAlias = "Counter[tuple[str, str]]"
"""How many answers were problems, by path as the route has it and by slug."""

PROBLEM_COUNTS: Final[web.AppKey[ProblemCounts]] = web.AppKey("callactors_problem_counts", Counter)


class Problem(NamedTuple):
    """A kind of problem: `slug` is the last part of its type, a URI reference relative to the server."""

    status: int
    slug: str
    title: str


PROBLEMS: Final[dict[type[CallactorsError], Problem]] = {
    BrokenBody: Problem(400, "broken-body", "The body broke off"),
    InvalidJson: Problem(400, "invalid-json", "The body is not JSON"),
    InvalidUtf8: Problem(400, "invalid-utf8", "The body is not UTF-8"),
    JsonTooDeep: Problem(400, "json-too-deep", "The JSON is too deep"),
    DuplicateKey: Problem(400, "duplicate-key", "A key is there twice"),
    InvalidText: Problem(422, "invalid-text", "Text cannot be stored"),
    InvalidFields: Problem(422, "validation", "Fields are wrong"),
    DataTooLong: Problem(413, "body-too-large", "The data is too long"),
    LineTooLong: Problem(413, "body-too-large", "A line is too long"),
    InvalidCallId: Problem(422, "invalid-call-id", "The call id is wrong"),
    UnsupportedCharset: Problem(415, "unsupported-charset", "Send UTF-8"),
    UnsupportedMediaType: Problem(415, "unsupported-media-type", "Send JSON"),
    UpgradeRequired: Problem(426, "upgrade-required", "This is a WebSocket"),
    Unauthorized: Problem(401, "unauthorized", "A key is needed"),
    InsufficientScope: Problem(403, "insufficient-scope", "The key does not open this"),
    CallNotAllowed: Problem(403, "call-not-allowed", "The key is for other calls"),
    ForeignOrigin: Problem(403, "foreign-origin", "Not from this page"),
    NotSigned: Problem(403, "not-signed", "The signature is wrong"),
    InvalidCallback: Problem(422, "invalid-callback", "This is not the vendor's callback"),
    Misdirected: Problem(421, "misdirected", "Not by this name"),
    SlowBody: Problem(408, "request-timeout", "The body came too slowly"),
    UnknownCall: Problem(404, "unknown-call", "No such call"),
    CallEnded: Problem(409, "call-ended", "The call has ended"),
    CallNotFailed: Problem(409, "call-not-failed", "The call has not failed"),
    CallErased: Problem(410, "call-erased", "The call was erased"),
    CallClosed: Problem(409, "call-closed", "The call takes no new packets"),
    CallFull: Problem(409, "call-full", "The call has as much as it may have"),
    SequenceConflict: Problem(409, "sequence-conflict", "The sequence is stored with other data"),
    SequenceWindow: Problem(409, "sequence-window", "Too many gaps"),
    TooManyStreams: Problem(409, "too-many-streams", "Too many streams"),
    MailboxFull: Problem(429, "call-backpressure", "Too many packets of this call are waiting"),
    KeyBusy: Problem(429, "key-busy", "Too much at once with this key"),
    TooManyNewCalls: Problem(429, "call-rate", "Too many new calls with this key"),
    Overloaded: Problem(503, "overloaded", "The server is full"),
    Draining: Problem(503, "draining", "The server is shutting down"),
    ActorStopped: Problem(503, "draining", "The server is shutting down"),
    StorageUnavailable: Problem(503, "storage-unavailable", "The database does not answer"),
    StorageRefused: Problem(503, "storage-refused", "The database refused the change"),
    ActorFailed: Problem(503, "actor-restarted", "The call's actor was restarted"),
    Fenced: Problem(503, "fenced", "Another server owns the call"),
}

_OF_STATUS: Final = {
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    417: "expectation-failed",
}


def answering(handler: Handler) -> Handler:
    """Wrap *handler* so that our errors, and aiohttp's own, become problem details."""

    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Unavailable as error:
            return problem_of(request, error)
        except CallactorsError as error:
            response = problem_of(request, error)
        except web.HTTPException as error:
            response = _of_http(request, error)
        await pace(request)
        return response

    return answer


async def no_route(request: web.Request) -> web.StreamResponse:
    """Answer in the server's own app where no route takes the request: 405 if it has the path, else 404.

    A middleware would do the same, at every request's expense.
    """
    own = request.match_info.route.resource
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if resource is not own:
            allowed |= (await resource.resolve(request))[1]
    error = web.HTTPMethodNotAllowed(request.method, allowed) if allowed else web.HTTPNotFound()
    await pace(request)
    return _of_http(request, error)


def problem_of(request: web.Request, error: CallactorsError, **extra: Any) -> web.StreamResponse:
    """Return the answer to *error*, one of PROBLEMS, with *extra* members; it is counted."""
    count_problem(request, error)
    told = {**describe(error), **extra}
    if isinstance(error, Unavailable):  # an overload is made of these
        told["instance"] = _instance(request)
        return quick_response(request, told["status"], told, _PROBLEM, math.ceil(error.retry_after))
    response = _respond(request, told)
    if isinstance(error, UpgradeRequired):
        response.headers["Upgrade"] = "websocket"
        response.headers["Connection"] = "Upgrade"
    elif isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, InsufficientScope):
        scopes = " ".join(error.scopes)
        response.headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{scopes}"'
    elif isinstance(error, SlowBody):
        response.force_close()
    return response


def count_problem(request: web.Request, error: CallactorsError) -> None:
    """Count that *request*, or a part of what it brought, is refused with *error*."""
    _count(request, PROBLEMS[type(error)].slug)


def describe(error: CallactorsError) -> dict[str, Any]:
    """Return *error*, one of PROBLEMS, as problem details."""
    told = _describe(PROBLEMS[type(error)], str(error))
    if isinstance(error, InvalidFields):
        told["errors"] = [{"pointer": e.pointer, "code": e.code, "detail": e.detail} for e in error.errors]
    return told


def find_problem(error: type[CallactorsError] | type[web.HTTPError]) -> Problem:
    """Return the kind of problem that *error* becomes."""
    if issubclass(error, CallactorsError):
        return PROBLEMS[error]
    status = HTTPStatus(error.status_code)
    return Problem(status, _OF_STATUS[status], status.phrase)


def _of_http(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    slug = _OF_STATUS.get(error.status, error.reason.lower().replace(" ", "-"))
    _count(request, slug)
    response = _respond(request, _describe(Problem(error.status, slug, error.reason), error.reason))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _count(request: web.Request, slug: str) -> None:
    counts = request.app.get(PROBLEM_COUNTS)
    if counts is None:  # in a sub-app
        counts = request.config_dict.get(PROBLEM_COUNTS)
    resource = request.match_info.route.resource
    if counts is not None and resource is not None:
        counts[resource.canonical, slug] += 1


def _describe(problem: Problem, detail: str) -> dict[str, Any]:
    return {
        "type": f"/problems/{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
    }


def _respond(request: web.Request, told: dict[str, Any]) -> web.Response:
    content = json.dumps({**told, "instance": _instance(request)}).encode()
    return web.Response(body=content, status=told["status"], content_type=_PROBLEM)


def _instance(request: web.Request) -> str:
    return mask_keys(request.path)[:200]
