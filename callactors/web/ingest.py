"""Packets and completes come in."""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from callactors.errors import Unauthorized, UnsupportedCharset, UnsupportedMediaType
from callactors.facts import Accepted, Completed
from callactors.packets import check_call_id, read_complete, read_packet
from callactors.sequence import Range
from callactors.web.body import find_encoding, read_body
from callactors.web.guard import get_guard
from callactors.web.inflate import InflatedReader
from callactors.web.keys import get_calls
from callactors.web.limits import get_limits
from callactors.web.lines import LineFailed, LineIngest
from callactors.web.problems import problem_of
from callactors.web.replies import accepted_response

_NDJSON: Final = "application/x-ndjson"
_TOLD_GAPS: Final = 10
_JSON: Final = frozenset({None, "application/json", "application/json; charset=utf-8"})


async def stream(request: web.Request) -> web.StreamResponse:
    """Store one packet, or each line of a stream of them; 202 after the commit."""
    call_id = check_call_id(request.match_info["call_id"])
    get_guard(request).count_call(request, call_id)
    if request.headers.get("Content-Type") not in _JSON and request.content_type == _NDJSON:
        return await _stream_lines(request, call_id)
    system = get_calls(request)
    system.admit()  # an overloaded server does nothing with what it refuses
    packet = read_packet(await _read_json(request))
    accepted = await system.accept(call_id, packet)
    return accepted_response(request, _present_accepted(call_id, accepted))


async def _stream_lines(request: web.Request, call_id: str) -> web.StreamResponse:
    encoding = find_encoding(request)
    _check_charset(request)
    ingest, body = LineIngest(get_calls(request), call_id, get_limits(request)), request.content
    try:
        with get_guard(request).holding(
            request, lambda: body.set_exception(Unauthorized("the key has ended"))
        ):
            await ingest.run(body if encoding is None else InflatedReader(body, encoding))
    except LineFailed as failed:
        return problem_of(request, failed.error, line=failed.line, stored=failed.line - 1)
    return accepted_response(request, _present_lines(call_id, ingest))


async def complete(request: web.Request) -> web.StreamResponse:
    """End a call; 202 also for every repetition."""
    call_id = check_call_id(request.match_info["call_id"])
    body = read_complete(await _read_json(request))
    completed = await get_calls(request).complete(call_id, body)
    return accepted_response(request, present_completed(call_id, completed))


async def _read_json(request: web.Request) -> bytes:
    body = await read_body(request)
    if body and request.headers.get("Content-Type") not in _JSON:
        if request.content_type != "application/json":
            raise UnsupportedMediaType
        _check_charset(request)
    return body


def _check_charset(request: web.Request) -> None:
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedCharset


def _present_accepted(call_id: str, accepted: Accepted) -> dict[str, Any]:
    return {
        "status": "accepted",
        "call_id": call_id,
        "stream": accepted.stream,
        "sequence": accepted.sequence,
        "duplicate": accepted.is_duplicate,
        "late": accepted.is_late,
        "total_received": accepted.total_received,
        "missing_sequences": accepted.gaps[:_TOLD_GAPS],
        "missing_count": _count(accepted.gaps),
        "message": _message(accepted),
    }


def _present_lines(call_id: str, ingest: LineIngest) -> dict[str, Any]:
    return {
        "status": "accepted",
        "call_id": call_id,
        "packets": ingest.packets,
        "duplicates": ingest.duplicates,
        "late": ingest.late,
        "total_received": ingest.total_received,
        "missing_sequences": {name: gaps[:_TOLD_GAPS] for name, gaps in ingest.gaps.items() if gaps},
        "missing_count": sum(map(_count, ingest.gaps.values())),
    }


def present_completed(call_id: str, completed: Completed) -> dict[str, Any]:
    """Return the answer to a complete."""
    return {
        "status": "already_completed" if completed.was_completed else "accepted",
        "call_id": call_id,
        "state": completed.state,
        "missing_sequences": {name: gaps[:_TOLD_GAPS] for name, gaps in completed.missing.items()},
        "missing_count": sum(map(_count, completed.missing.values())),
    }


def _count(gaps: Sequence[Range]) -> int:
    return sum(last - first + 1 for first, last in gaps)


def _message(accepted: Accepted) -> str:
    if accepted.is_duplicate:
        return "stored before"
    if accepted.gap is not None:
        first, last = accepted.gap
        return f"stored; out of order: {last - first + 1} missing before it"
    return "stored; late" if accepted.is_late else "stored"
