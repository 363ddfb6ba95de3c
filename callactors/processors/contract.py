"""What a processor of the AI step is given, and what it may answer."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from callactors.errors import AudioNotStored
from callactors.packets import EndReason, PacketKind
from callactors.retry import Outcome
from callactors.store.contents import StoredPacket


class Audio(NamedTuple):
    """A piece of audio: *at* is the packet's timestamp, *track* is "" where the vendor names none."""

    track: str
    at: float
    payload: bytes


ReadPage: TypeAlias = Callable[[str, int], Awaitable[tuple[Sequence[StoredPacket], int | None]]]
"""Takes a stream and the sequence before the page, and returns it and where the next one begins, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A completed call, as one attempt of the AI step sees it.

    *deadline* is the seconds the attempt may take. The outside call is made at least once a generation; a
    provider that keeps `idempotency_key` does the work once. *streams* are the names of those that it has.
    """

    call_id: str
    generation: int
    attempt: int
    deadline: float
    packet_count: int
    streams: Sequence[str] = ()
    end_reason: EndReason | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    read_page: ReadPage | None = field(default=None, repr=False)

    @property
    def idempotency_key(self) -> str:
        return f"{self.call_id}:{self.generation}"

    async def packets(self, stream: str | None = None) -> AsyncIterator[StoredPacket]:
        """Yield the packets of *stream*, or of all streams one after the other, in order of sequence.

        They are read in pages, so that a call of any length fits.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        if self.read_page is None:
            return
        for name in self.streams if stream is None else (stream,):
            after: int | None = -1
            while after is not None:
                page, after = await self.read_page(name, after)
                for packet in page:
                    yield packet

    async def audio(self, stream: str) -> AsyncIterator[Audio]:
        """Yield the audio of *stream*, encoded as the vendor sent it; `metadata["media_format"]` says how.

        Raises:
            AudioNotStored: it was not kept.
            StorageUnavailable: the database does not answer.
        """
        async for packet in self.packets(stream):
            if packet.kind is PacketKind.MEDIA:
                yield _read_audio(self.call_id, packet)


def _read_audio(call_id: str, packet: StoredPacket) -> Audio:
    """Media is base64, or an object with the track and either that or what describes it."""
    track, payload = "", packet.data
    if payload.startswith("{"):
        told = json.loads(payload)
        if "payload" not in told:
            raise AudioNotStored(call_id)
        track, payload = told.get("track", ""), told["payload"]
    return Audio(track, packet.timestamp, base64.b64decode(payload))


Processor: TypeAlias = Callable[[CallRecord], Awaitable[Outcome]]
"""Runs the AI step once. Raising anything, or running past the deadline, is a failed attempt."""
