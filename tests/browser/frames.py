"""How smooth the page stays: `python -m tests.browser.frames` prints the times between its frames.

The page is real, the calls are made up: 500 are live at any time, and each event moves one of them on; six
events are a call's whole life, and the order of the rows changes with a third of them.
"""

import argparse
import asyncio
import itertools
import json
import shutil
import sys
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from playwright.async_api import async_playwright

from callactors.web import dashboard

LIVE: Final = 500
_BURSTS: Final = 50  # a second
_LIFE: Final[list[dict[str, Any]]] = [
    {"type": "event", "from": None, "state": "IN_PROGRESS", "attempt": 0},
    {"type": "event", "from": "IN_PROGRESS", "state": "COMPLETED", "attempt": 0, "end_reason": "api"},
    {"type": "event", "from": "COMPLETED", "state": "PROCESSING_AI", "attempt": 1},
    {"type": "attempt", "from": "PROCESSING_AI", "state": "PROCESSING_AI", "attempt": 1, "phase": "started"},
    {
        "type": "attempt",
        "from": "PROCESSING_AI",
        "state": "PROCESSING_AI",
        "attempt": 1,
        "phase": "succeeded",
    },
    {"type": "event", "from": "PROCESSING_AI", "state": "ARCHIVED", "attempt": 1, "end_reason": "api"},
]
_MEASURE: Final = """seconds => new Promise(resolve => {
    const times = [];
    let last = performance.now();
    const end = last + seconds * 1000;
    const next = now => {
        times.push(now - last);
        last = now;
        if (now < end) requestAnimationFrame(next);
        else resolve([times, document.querySelectorAll("#live tr").length]);
    };
    requestAnimationFrame(next);
})"""


class Floor:
    """Calls that go through their lives without end."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._numbers = itertools.count(1)
        self._calls: deque[tuple[str, int]] = deque()

    async def tell(self, request: web.Request) -> web.WebSocketResponse:
        """Send an empty snapshot, bring the floor to its size, and move its calls on."""
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        snapshot = {"type": "snapshot", "part": 1, "last": True, "cursor": "c", "calls": []}
        await ws.send_str(json.dumps(snapshot))
        for _ in range(LIVE):
            await ws.send_str(self._event())
        with suppress(ConnectionError):
            await self._go_on(ws)
        return ws

    async def _go_on(self, ws: web.WebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        begin, told = loop.time(), 0
        while not ws.closed:
            await asyncio.sleep(1 / _BURSTS)
            due = int((loop.time() - begin) * self._rate)
            for _ in range(due - told):
                await ws.send_str(self._event())
            told = due

    def _event(self) -> str:
        is_new = len(self._calls) < LIVE
        call_id, version = (f"call-{next(self._numbers):06}", 0) if is_new else self._calls.popleft()
        event = {**_LIFE[version], "call_id": call_id, "version": version + 1, "at": _now(), "cursor": "c"}
        if version + 1 < len(_LIFE):
            self._calls.append((call_id, version + 1))
        return json.dumps(event)


async def list_calls(request: web.Request) -> web.Response:
    """Tell counts of the calls that the page asks for."""
    counts = {"packets": 1_234, "late": 0, "duplicates": 0, "missing_count": 0, "has_gaps": False}
    named = request.query.getall("call_id", [])
    calls = [{"call_id": name, "version": 0, "started_at": _now(), **counts} for name in named]
    return web.json_response({"calls": calls, "cursor": None})


async def stats(_: web.Request) -> web.Response:
    """Tell figures."""
    states = {"IN_PROGRESS": 100, "COMPLETED": 100, "PROCESSING_AI": 300}
    told: dict[str, Any] = {"at": _now(), "states": states, "ended": {"ARCHIVED": 1, "FAILED": 0}}
    told |= {"ended_is_bounded": False, "retrying": 0, "failed_last_hour": 0, "packets_per_second": 1.0}
    return web.json_response({**told, "attempt_seconds": {"p50": 1.0, "p95": 2.0, "attempts": 9}})


async def measure(seconds: float, rate: int) -> dict[str, Any]:
    """Return the frames of a page that is told *rate* events a second, for so many *seconds*."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/", dashboard.page),
            web.get("/dashboard/{name}", dashboard.file),
            web.get("/ws/supervisor", Floor(rate).tell),
            web.get("/v1/calls", list_calls),
            web.get("/v1/stats", stats),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        await page.locator("#live tr").nth(LIVE - 1).wait_for()
        times, rows = await page.evaluate(_MEASURE, seconds)
        await browser.close()
    await runner.cleanup()
    return {"events_per_second": rate, "rows": rows, **_describe(times)}


def _describe(times: list[float]) -> dict[str, Any]:
    ordered = sorted(times)
    at = {share: ordered[int(len(ordered) * share / 100)] for share in (50, 95, 99)}
    return {
        "frames": len(ordered),
        **{f"p{share}_ms": round(value, 1) for share, value in at.items()},
        "longest_ms": round(ordered[-1], 1),
        "over_50_ms": sum(value > 50 for value in ordered),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=1_000, help="events a second")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(asyncio.run(measure(options.seconds, options.rate))) + "\n")


if __name__ == "__main__":
    main()
