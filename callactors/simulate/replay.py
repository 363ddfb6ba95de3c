"""Plays what was captured, each connection on one of its own, at the times of the file."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import ClientSession

from callactors.simulate.actions import Action, Send
from callactors.simulate.captures import Captured
from callactors.simulate.connection import ClosedEarly, Pace, Refused, connect, make_session, play

_MEDIA: Final = ("/v1/media", "/v1/media/binary")


@dataclass(slots=True)
class Played:
    """What came out; *refused* and *closed_early* count why."""

    connections: int = 0
    messages: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    closed_early: Counter[str] = field(default_factory=Counter)

    @property
    def is_whole(self) -> bool:
        """Whether the server took all."""
        return not self.refused and not self.closed_early

    def note(self, action: Action) -> None:
        """Take *action* down, which was just done."""
        self.messages += isinstance(action, Send)


class Replay:
    """Plays *connections* to the server at *url*; vendors send no headers, so *key* is put into paths."""

    def __init__(self, connections: Mapping[str, Captured], url: str, key: str | None, pace: Pace) -> None:
        self._connections = connections
        self._url = url
        self._key = key
        self._pace = pace
        self._played = Played()

    async def run(self) -> Played:
        """Play all to the end, each connection from its first line on."""
        async with make_session() as session, asyncio.TaskGroup() as group:
            start = self._pace.now()
            for captured in self._connections.values():
                group.create_task(self._play(session, captured, start))
        return self._played

    async def _play(self, session: ClientSession, captured: Captured, start: float) -> None:
        played = self._played
        await self._pace.wait(start, captured.actions[0].at)
        address, headers = self._address(captured.path)
        try:
            ws = await connect(session, address, subprotocol=captured.subprotocol, headers=headers)
        except Refused as error:
            played.refused[str(error)] += 1
            return
        played.connections += 1
        try:
            async with ws:
                await play(ws, captured.actions, self._pace, played.note, start=start)
        except ClosedEarly as error:
            played.closed_early[str(error)] += 1

    def _address(self, path: str) -> tuple[str, dict[str, str]]:
        if self._key is None:
            return self._url + path, {}
        if path in _MEDIA:
            return f"{self._url}{path}/{self._key}", {}
        return self._url + path, {"Authorization": f"Bearer {self._key}"}
