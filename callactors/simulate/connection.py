"""One connection to the server, on which actions are done when their time comes."""

import asyncio
import socket
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import inf
from typing import Final

from aiohttp import (
    ClientError,
    ClientSession,
    ClientWebSocketResponse,
    ClientWSTimeout,
    TCPConnector,
    WSServerHandshakeError,
)

from callactors.simulate.actions import Action, Close, Cut, Lose, Send

_OPEN_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 10.0


class Refused(Exception):
    """The server does not open a connection; the text says why, and has no URL, which may hold a key."""


class ClosedEarly(Exception):
    """The server closed a connection before all was sent."""


class Pace:
    """Says when it is time, *speed* times as fast as real time, and keeps how late it said so.

    Every wait is reckoned from the start, so that lateness does not add up. *speed* may be infinite.
    """

    def __init__(
        self,
        speed: float = 1.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.lateness = array("d")
        self.now = clock
        self._speed = speed
        self._sleep = sleep

    async def wait(self, start: float, at: float) -> None:
        """Return *at* seconds, in real time, after *start*; let others do something in any case."""
        due = start + at / self._speed
        await self._sleep(max(0.0, due - self.now()))
        if self._speed != inf:
            self.lateness.append(max(0.0, self.now() - due))


def make_session() -> ClientSession:
    """Return a session with any number of connections."""
    return ClientSession(connector=TCPConnector(limit=0))


async def connect(
    session: ClientSession, url: str, *, subprotocol: str | None, headers: Mapping[str, str] | None = None
) -> ClientWebSocketResponse:
    """Return a connection to *url*, offering *subprotocol*.

    Raises:
        Refused: there is none.
    """
    protocols = () if subprotocol is None else (subprotocol,)
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT):
            return await session.ws_connect(
                url, protocols=protocols, headers=headers, timeout=ClientWSTimeout(ws_close=_CLOSE_TIMEOUT)
            )
    except WSServerHandshakeError as error:
        raise Refused(f"HTTP status {error.status}") from None
    except (ClientError, OSError) as error:  # TimeoutError is one
        reason = error.strerror if isinstance(error, OSError) else None
        raise Refused(reason or type(error).__name__) from None


async def play(
    ws: ClientWebSocketResponse,
    script: Iterable[Action],
    pace: Pace,
    note: Callable[[Action], None],
    *,
    start: float,
) -> None:
    """Do on *ws* all of *script*, which has begun at *start*, and *note* what is done.

    Raises:
        ClosedEarly: the server closed the connection meanwhile.
    """
    reading = asyncio.create_task(_read(ws))
    try:
        for action in script:
            await pace.wait(start, action.at)
            if ws.closed and not isinstance(action, Close):
                raise ClosedEarly(f"closed with {ws.close_code}")
            await _do(ws, action)
            note(action)
        await asyncio.wait((reading,), timeout=_CLOSE_TIMEOUT)
    except (ConnectionError, ClientError):
        raise ClosedEarly(f"closed with {ws.close_code}") from None
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _do(ws: ClientWebSocketResponse, action: Action) -> None:
    match action:
        case Send(_, str(text)):
            await ws.send_str(text)
        case Send(_, bytes(audio)):
            await ws.send_bytes(audio)
        case Close(_, code):
            await ws.close(code=code)
        case Cut():
            ws.get_extra_info("socket").shutdown(socket.SHUT_WR)  # what was sent before still arrives
        case Lose():
            pass


async def _read(ws: ClientWebSocketResponse) -> None:
    """Take what comes, so that pings are answered and the server's close is seen."""
    async for _ in ws:
        pass
