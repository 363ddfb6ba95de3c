"""A call as JSON, in pieces: however long it is, only a page of it is in memory."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from callactors.errors import CallactorsError
from callactors.processors.contract import CallRecord

_PIECE: Final = 65_536  # characters, about


class RequestTooLarge(Exception):
    """The call makes a request of more bytes than are allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the call makes a request of more than {limit} bytes, which CALLACTORS_HTTP_MAX_REQUEST allows"
        )


class CallBody:
    """Yields the JSON of a call, each time anew; *error* is what has ended it early.

    Raises:
        RequestTooLarge: it has more than *limit* bytes.
        CallactorsError: the packets cannot be read.
    """

    def __init__(self, call: CallRecord, limit: int) -> None:
        self._call = call
        self._limit = limit
        self.error: CallactorsError | RequestTooLarge | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for text in _pieces(self._call):
                piece = text.encode()
                size += len(piece)
                if size > self._limit:
                    raise RequestTooLarge(self._limit)
                yield piece
        except (CallactorsError, RequestTooLarge) as error:
            self.error = error
            raise


async def _pieces(call: CallRecord) -> AsyncIterator[str]:
    told = _dump(_tell(call))[:-1] + ',"packets":['
    comma = ""
    async for packet in call.packets():
        told += comma + _dump(packet._asdict())
        comma = ","
        if len(told) >= _PIECE:
            yield told
            told = ""
    yield told + "]}"


def _tell(call: CallRecord) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "generation": call.generation,
        "attempt": call.attempt,
        "idempotency_key": call.idempotency_key,
        "end_reason": call.end_reason,
        "started_at": call.started_at and call.started_at.isoformat(),
        "completed_at": call.completed_at and call.completed_at.isoformat(),
        "metadata": dict(call.metadata),
        "streams": list(call.streams),
    }


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
