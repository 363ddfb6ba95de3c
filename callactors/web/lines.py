"""NDJSON: a packet a line, as many as the sender likes, read no faster than they are stored."""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Final, NamedTuple

from aiohttp import StreamReader, web

from callactors.errors import (
    BrokenBody,
    CallactorsError,
    CallError,
    InputError,
    LineTooLong,
    MailboxFull,
    Overloaded,
    SlowBody,
    Unauthorized,
    Unavailable,
)
from callactors.facts import Accepted
from callactors.packets import Packet, read_packet
from callactors.sequence import Range
from callactors.system import CallSystem
from callactors.web.inflate import InflatedReader
from callactors.web.limits import Limits

MAX_LINE: Final = 1024 * 1024
TOGETHER: Final = 64  # packets that share a message to the call's actor
WINDOW: Final = 1_024  # packets of one sender that may be unanswered
WINDOW_SIZE: Final = 2 * 1024 * 1024  # and characters of their data

Body = StreamReader | InflatedReader
Line = tuple[int, bytes]
"""Its number in the body, from 1, and what stands in it."""


class LineFailed(Exception):
    """What ended a body: all lines before *line* are surely stored."""

    def __init__(self, line: int, error: CallactorsError) -> None:
        super().__init__(line, error)
        self.line = line
        self.error = error


class _Sent(NamedTuple):
    """Packets on their way, the lines they stood in, and the reply."""

    numbers: Sequence[int]
    size: int
    reply: "Future[list[Accepted | CallError | Unavailable]]"


class LineIngest:
    """Stores the packets of one body, in order, and counts what became of them."""

    def __init__(self, system: CallSystem, call_id: str, limits: Limits) -> None:
        self._system = system
        self._call_id = call_id
        self._limits = limits
        self._sent: deque[_Sent] = deque()
        self._unanswered = 0
        self._size = 0
        self.packets = 0
        self.duplicates = 0
        self.late = 0
        self.total_received = 0
        self.gaps: dict[str, Sequence[Range]] = {}

    async def run(self, body: Body) -> None:
        """Store what stands in *body*.

        Raises:
            LineFailed: a line is wrong or was not taken, or the body broke off.
        """
        try:
            async for lines in read_lines(body, self._limits):
                for start in range(0, len(lines), TOGETHER):
                    await self._send(lines[start : start + TOGETHER])
                    await asyncio.sleep(0)  # others come in between: the body may have a thousand lines ready
            await self._settle(0, 0)
        except LineFailed as failed:
            await self._settle(0, 0)  # what an earlier line brings counts
            raise failed from None
        finally:
            self._give_up()

    async def _send(self, lines: Sequence[Line]) -> None:
        """Send the packets in *lines*; if one is wrong, those before it."""
        packets, numbers, failed = _read(lines)
        if packets:
            size = sum([len(packet.data) for packet in packets])
            await self._settle(WINDOW - len(packets), WINDOW_SIZE - size)
            reply = await self._ask(packets, numbers)
            self._sent.append(_Sent(numbers, size, reply))
            self._unanswered += len(packets)
            self._size += size
        if failed is not None:
            raise failed

    async def _ask(
        self, packets: Sequence[Packet], numbers: Sequence[int]
    ) -> "Future[list[Accepted | CallError | Unavailable]]":
        while True:
            try:
                return self._system.accept_many(self._call_id, packets)
            except (MailboxFull, Overloaded) as error:
                if not self._sent:
                    raise LineFailed(numbers[0], error) from None
            except Unavailable as error:
                raise LineFailed(numbers[0], error) from None
            await self._settle_first()

    async def _settle(self, unanswered: int, size: int) -> None:
        """Take answers until at most so many packets, of at most that size, are on their way."""
        while self._sent and (
            self._unanswered > unanswered or self._size > size or self._sent[0].reply.done()
        ):
            await self._settle_first()

    async def _settle_first(self) -> None:
        sent = self._sent.popleft()
        self._unanswered -= len(sent.numbers)
        self._size -= sent.size
        try:
            outcomes = await sent.reply
        except (CallError, Unavailable) as error:
            self._give_up()
            raise LineFailed(sent.numbers[0], error) from None
        answered = 0
        for outcome in outcomes:
            if not isinstance(outcome, Accepted):
                self._give_up()
                raise LineFailed(sent.numbers[answered], outcome)
            answered += outcome.packets
            self.packets += outcome.packets
            self.duplicates += outcome.is_duplicate
            self.late += outcome.is_late
            self.total_received = outcome.total_received
            self.gaps[outcome.stream] = outcome.gaps

    def _give_up(self) -> None:
        """Wait for nothing more; what is on its way may still be stored."""
        while self._sent:
            self._sent.pop().reply.cancel()


async def read_lines(body: Body, limits: Limits) -> AsyncIterator[Sequence[Line]]:
    """Yield the lines of *body* that are not blank, as many at a time as have come.

    Raises:
        LineFailed: a line is too long or comes too slowly, the body broke off, or the key has ended.
    """
    number = 0
    begun: list[bytes] = []  # of a line whose end has not come
    length = 0
    began = monotonic()
    try:
        while chunk := await _read_some(body, limits, monotonic() - began if length else None):
            if not length:
                began = monotonic()
            first, *rest = chunk.split(b"\n")
            begun.append(first)
            length += len(first)
            if rest and length <= MAX_LINE:
                whole = [b"".join(begun), *rest[:-1]]
                yield [(n, line) for n, line in enumerate(whole, number + 1) if line and not line.isspace()]
                number += len(whole)
                begun, length, began = [rest[-1]], len(rest[-1]), monotonic()
            if length > MAX_LINE:
                raise LineFailed(number + 1, LineTooLong(MAX_LINE))
    except (BrokenBody, ConnectionError, web.RequestPayloadError):
        raise LineFailed(number + 1, BrokenBody()) from None
    except (SlowBody, Unauthorized) as error:
        raise LineFailed(number + 1, error) from None
    if last := b"".join(begun).strip():
        yield [(number + 1, last)]


async def _read_some(body: Body, limits: Limits, age: float | None) -> bytes:
    """Return what comes next, b"" at the end; *age* is that of the line that has begun, in seconds."""
    timeout = limits.silence_timeout
    if age is not None:
        timeout = min(timeout, limits.body_timeout - age)
    try:
        async with asyncio.timeout(timeout):
            return await body.read(MAX_LINE)  # no more, so that none hides a longer line
    except TimeoutError:
        raise SlowBody(limits.silence_timeout if age is None else limits.body_timeout) from None


def _read(lines: Sequence[Line]) -> tuple[Sequence[Packet], Sequence[int], LineFailed | None]:
    packets: list[Packet] = []
    numbers: list[int] = []
    for number, line in lines:
        try:
            packets.append(read_packet(line))
        except InputError as error:
            return packets, numbers, LineFailed(number, error)
        numbers.append(number)
    return packets, numbers, None
