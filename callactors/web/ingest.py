"""Packets and completes come in."""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from callactors.call import Accepted, Completed
from callactors.errors import BrokenBody, UnsupportedMediaType
from callactors.packets import check_call_id, read_complete, read_packet
from callactors.sequence import Range
from callactors.web.keys import get_system
from callactors.web.problems import answering
from callactors.web.replies import accepted_response

_TOLD_GAPS: Final = 10
_JSON: Final = frozenset({None, "application/json", "application/json; charset=utf-8"})


@answering
async def stream(request: web.Request) -> web.StreamResponse:
    """Store one packet; 202 after its commit."""
    call_id = check_call_id(request.match_info["call_id"])
    packet = read_packet(await _read_json(request))
    accepted = await get_system(request).accept(call_id, packet)
    return accepted_response(request, _present_accepted(call_id, accepted))


@answering
async def complete(request: web.Request) -> web.StreamResponse:
    """End a call; 202 also for every repetition."""
    call_id = check_call_id(request.match_info["call_id"])
    body = read_complete(await _read_json(request))
    completed = await get_system(request).complete(call_id, body)
    return accepted_response(request, _present_completed(call_id, completed))


async def _read_json(request: web.Request) -> bytes:
    if "Content-Encoding" in request.headers:
        raise UnsupportedMediaType
    try:
        body = await request.read()
    except (ConnectionError, web.RequestPayloadError):
        raise BrokenBody from None
    if body and request.headers.get("Content-Type") not in _JSON and not _is_json(request):
        raise UnsupportedMediaType
    return body


def _is_json(request: web.Request) -> bool:
    charset = (request.charset or "utf-8").lower()
    return request.content_type == "application/json" and charset in ("utf-8", "utf8", "us-ascii")


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


def _present_completed(call_id: str, completed: Completed) -> dict[str, Any]:
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
