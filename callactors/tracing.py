"""Spans by OpenTelemetry: of requests, of what they store, of what follows from that, and of attempts.

Nothing is done unless its API is installed (the extra `otel`) and somebody has set up an SDK to take spans.
No span has packet data, or a path as it was asked for, which may hold a key. The API is imported where it is
used: not before the first CallSystem is made, which asks whether somebody takes spans.
"""

from asyncio import Future
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any, Final

_CALL_ID: Final = "callactors.call_id"

Tell = Callable[[str, Any], object]
"""Takes the name and the value of what is known of a span only at its end."""


def is_on() -> bool:
    """Whether somebody takes spans."""
    if not _is_installed():
        return False
    from opentelemetry import trace

    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def requested(route: str, headers: Mapping[str, str], call_id: str | None) -> Iterator[Tell]:
    """Have a span of a request to *route*, below what its `traceparent` names (W3C Trace Context)."""
    from opentelemetry import propagate, trace

    known = {"http.route": route} | ({} if call_id is None else {_CALL_ID: call_id})
    parent, kind = propagate.extract(headers), trace.SpanKind.SERVER
    with _tracer().start_as_current_span(route, parent, kind, known) as span:
        yield span.set_attribute


def stored(ask: Callable[..., "Future[Any]"], call_id: str) -> "Future[Any]":
    """Return what *ask* returns, which is given the context of a span that ends with it.

    There is none where no request is traced.
    """
    from opentelemetry import context, trace

    if not trace.get_current_span().get_span_context().is_valid:
        return ask()
    span = _tracer().start_span("store", attributes={_CALL_ID: call_id})
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
        _tracer().start_span(name, origin, attributes={_CALL_ID: call_id}).end()


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
    from opentelemetry import context

    with _tracer().start_as_current_span("attempt", origin or context.Context(), attributes=known) as span:
        yield span.set_attribute


@cache
def _is_installed() -> bool:
    try:
        from opentelemetry import trace  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def _tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("callactors")


def _end(span: Any, reply: "Future[Any]") -> None:
    from opentelemetry import trace

    if not reply.cancelled() and (error := reply.exception()) is not None:
        span.set_status(trace.StatusCode.ERROR, str(error))
    span.end()
