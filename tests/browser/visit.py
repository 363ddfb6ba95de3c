"""One visit of the page: what it asks for, what it hears, and what goes wrong."""

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Locator, Page, Request, WebSocket

_WATCH_STATES: Final = """callId => {
    window.seen = [];
    const look = () => {
        const state = document.querySelector(`tr[data-id="${callId}"] .chip`)?.dataset.state;
        if (state && window.seen.at(-1) !== state) window.seen.push(state);
    };
    const options = {subtree: true, childList: true, attributes: true};
    new MutationObserver(look).observe(document.getElementById("live"), options);
    look();
}"""


class Visit:
    """A page that was opened at *url*."""

    def __init__(self, page: "Page", url: str) -> None:
        self.page = page
        self.sockets: list[str] = []
        """The addresses of its WebSockets."""
        self.frames: list[dict[str, Any]] = []
        """All that its WebSockets have told."""
        self.requests: list[str] = []
        """The addresses of its other requests."""
        self.told: list[str] = []
        """All that the console says."""
        self.tolerated: tuple[str, ...] = ()
        """Words of the browser's messages that are expected."""
        self._origin = urlsplit(url).netloc
        self._faults: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._faults.append(f"error: {error}"))
        page.on("request", self._on_request)
        page.on("websocket", self._on_socket)

    def row(self, call_id: str) -> "Locator":
        return self.page.locator(f'tr[data-id="{call_id}"]')

    def state(self, call_id: str) -> "Locator":
        return self.row(call_id).locator(".chip")

    def connection(self) -> "Locator":
        return self.page.locator("#connection-word")

    async def watch_states(self, call_id: str) -> None:
        """Note from now on each state that the call's row shows, for `states_seen`."""
        await self.page.evaluate(_WATCH_STATES, call_id)

    async def states_seen(self) -> Any:
        return await self.page.evaluate("window.seen")

    def versions(self, call_id: str) -> list[int]:
        """The versions of the call's events that came, in order."""
        return [f["version"] for f in self.frames if f.get("call_id") == call_id]

    async def is_wider_than_the_window(self) -> Any:
        return await self.page.evaluate("document.documentElement.scrollWidth > innerWidth")

    def check(self) -> None:
        """Fail if something went wrong: an error, a refused resource, a request to another origin."""
        faults = [fault for fault in self._faults if not any(word in fault for word in self.tolerated)]
        assert not faults, faults

    def _on_console(self, message: "ConsoleMessage") -> None:
        self.told.append(message.text)
        if message.type in ("error", "warning"):
            self._faults.append(f"{message.type}: {message.text}")

    def _on_request(self, request: "Request") -> None:
        self.requests.append(request.url)
        if urlsplit(request.url).netloc != self._origin:
            self._faults.append(f"a request leaves the origin: {request.url}")

    def _on_socket(self, socket: "WebSocket") -> None:
        self.sockets.append(socket.url)
        if urlsplit(socket.url).netloc != self._origin:
            self._faults.append(f"a socket leaves the origin: {socket.url}")
        socket.on("framereceived", lambda text: self.frames.append(json.loads(text)))
