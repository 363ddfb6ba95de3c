"""Spans by OpenTelemetry: of requests, of what they store, of what follows from that, and of attempts.

Nothing is done unless its API is installed (the extra `otel`) and somebody has set up an SDK to take spans.
No span has packet data, or a path as it was asked for, which may hold a key.
"""

from asyncio import Future
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Final

try:
    from opentelemetry import context, propagate, trace
except ImportError:
    _IS_INSTALLED = False
else:
    _IS_INSTALLED = True
    _TRACER = trace.get_tracer("callactors")

_CALL_ID: Final = "callactors.call_id"

Tell = Callable[[str, Any], object]
"""Takes the name and the value of what is known of a span only at its end."""


def is_on() -> bool:
    """Whether somebody takes spans."""
    return _IS_INSTALLED and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def requested(route: str, headers: Mapping[str, str], call_id: str | None) -> Iterator[Tell]:
    """Have a span of a request to *route*, below what its `traceparent` names (W3C Trace Context)."""
    known = {"http.route": route} | ({} if call_id is None else {_CALL_ID: call_id})
    parent, kind = propagate.extract(headers), trace.SpanKind.SERVER
    with _TRACER.start_as_current_span(route, parent, kind, known) as span:
        yield span.set_attribute


def stored(ask: Callable[..., "Future[Any]"], call_id: str) -> "Future[Any]":
    """Return what *ask* returns, which is given the context of a span that ends with it.

    There is none where no request is traced.
    """
    if not trace.get_current_span().get_span_context().is_valid:
        return ask()
    span = _TRACER.start_span("store", attributes={_CALL_ID: call_id})
    try:
        with trace.use_span(span):
            reply = ask(context=context.get_current())
    except BaseException:
        span.end()
        raise
    reply.add_done_callback(partial(_end, span))
    return reply


def followed(origin: Any, name: str, call_id: str) -> None:
    """Have a span without a length of what was committed because of *origin*, the context of a request."""
    if origin is not None:
        _TRACER.start_span(name, origin, attributes={_CALL_ID: call_id}).end()


def attempted(
    origin: Any, call_id: str, generation: int, attempt: int
) -> AbstractContextManager[Tell | None]:
    """Have a span of an attempt of the AI step below *origin*, if that is known; None if nobody takes it."""
    if not is_on():
        return nullcontext()
    known = {_CALL_ID: call_id, "callactors.generation": generation, "callactors.attempt": attempt}
    return _attempted(origin, known)


@contextmanager
def _attempted(origin: Any, known: Mapping[str, Any]) -> Iterator[Tell]:
    with _TRACER.start_as_current_span("attempt", origin or context.Context(), attributes=known) as span:
        yield span.set_attribute


def _end(span: Any, reply: "Future[Any]") -> None:
    if not reply.cancelled() and (error := reply.exception()) is not None:
        span.set_status(trace.StatusCode.ERROR, str(error))
    span.end()
