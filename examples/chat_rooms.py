"""Chat rooms on the actor runtime alone: a room is an actor, there while somebody is in it. GET /ws/ROOM."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from callactors.actors import Actor, ActorRegistry, Envelope

Note = tuple[web.WebSocketResponse, str | None]  # a member, and what it says: None when it has left
ROOMS: web.AppKey[ActorRegistry[str, Note]] = web.AppKey("rooms", ActorRegistry)


class Room(Actor[str, Note]):
    async def on_start(self) -> None:
        self.members = set[web.WebSocketResponse]()

    @property
    def is_busy(self) -> bool:
        return bool(self.members)

    async def receive(self, envelope: Envelope[Note]) -> None:
        member, text = envelope.message
        (self.members.discard if text is None else self.members.add)(member)
        if text:  # who does not read is not waited for
            sending = [asyncio.wait_for(each.send_str(text), timeout=1) for each in self.members]
            await asyncio.gather(*sending, return_exceptions=True)
        envelope.answer(len(self.members))


async def run_rooms(app: web.Application) -> AsyncIterator[None]:
    app[ROOMS] = rooms = ActorRegistry(Room)
    rooms.start()
    yield
    await rooms.stop(timeout=5)


async def chat(request: web.Request) -> web.WebSocketResponse:
    rooms, room, ws = request.app[ROOMS], request.match_info["room"], web.WebSocketResponse(heartbeat=20)
    await ws.prepare(request)
    try:
        await rooms.ask(room, (ws, ""))
        async for message in ws:  # one note at a time: nobody floods a room
            await rooms.ask(room, (ws, str(message.data)))
    finally:
        rooms.tell(room, (ws, None))
    return ws


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(run_rooms)
    app.add_routes([web.get("/ws/{room}", chat)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=8000, shutdown_timeout=1)
