"""The page wherever it is mounted, and whatever calls carry."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

from callactors.processors.contract import CallRecord, Processor
from callactors.retry import Done, GiveUp, Outcome
from callactors.system import CallSystem
from callactors.web.setup import routes, setup
from tests.browser.visit import Visit
from tests.scenes import OPTIONS

playwright = pytest.importorskip(
    "playwright.async_api", reason="no playwright here: `tox -e browser` has it", exc_type=ImportError
)
expect = playwright.expect
pytestmark = pytest.mark.timeout(120)

Open = Callable[..., Awaitable[Visit]]

PROBE = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
SENT = {"sequence": 1, "data": "x", "timestamp": 1}


def make_app(dsn: str, processor: Processor) -> web.Application:
    """Return an application with the calls under /floor/."""
    app, floor = web.Application(), web.Application()
    setup(app, CallSystem(dsn, processor, OPTIONS))
    floor.add_routes(routes())
    app.add_subapp("/floor", floor)
    return app


async def answer(call: CallRecord) -> Outcome:
    if call.call_id == "bad":
        return GiveUp(PROBE)
    return Done({"transcript": PROBE, "sentiment": PROBE, PROBE: PROBE})


async def test_the_page_works_under_a_prefix(dsn: str, aiohttp_server: AiohttpServer, visit: Open) -> None:
    server = await aiohttp_server(make_app(dsn, answer))
    url = str(server.make_url("/floor/"))
    seen = await visit(url)
    await expect(seen.page.locator("#empty pre")).to_contain_text(f"{url}v1/call/stream/demo-1")
    await seen.page.request.post(f"{url}v1/call/stream/c", data=SENT)
    await seen.page.request.post(f"{url}v1/call/complete/c", data={"last_sequence": {"": 1}})
    await expect(seen.state("c")).to_have_text("Archived")
    await seen.row("c").click()
    await expect(seen.page).to_have_url(f"{url}?call=c")
    await expect(seen.page.locator(".timeline li")).to_have_count(6)
    await seen.page.keyboard.press("Escape")
    await expect(seen.page).to_have_url(url)
    await expect(seen.page.locator('.tile[data-name="archived"] strong')).to_have_text("1")


async def test_markup_that_calls_carry_is_shown_as_text(
    dsn: str, aiohttp_server: AiohttpServer, visit: Open
) -> None:
    server = await aiohttp_server(make_app(dsn, answer))
    url = str(server.make_url("/floor/"))
    seen = await visit(f"{url}?q={PROBE}&state={PROBE}")
    await expect(seen.page.get_by_label("Search by call id")).to_have_value(PROBE)
    await seen.page.goto(url)
    await expect(seen.connection()).to_have_text("Live")
    for call_id in ("good", "bad"):
        packet = {**SENT, "stream": PROBE, "data": PROBE}
        await seen.page.request.post(f"{url}v1/call/stream/{call_id}", data=packet)
        ending = {"last_sequence": {PROBE: 1}, "metadata": {PROBE: PROBE}}
        await seen.page.request.post(f"{url}v1/call/complete/{call_id}", data=ending)
    await expect(seen.row("bad").locator(".last")).to_contain_text(f"failed: {PROBE}")
    for call_id in ("good", "bad"):
        await seen.row(call_id).locator("a").click()
        await expect(seen.page.locator(".result")).to_contain_text("<img src=x onerror=")
        await expect(seen.page.locator(".streams")).to_contain_text(PROBE)
        assert await seen.page.locator("main img, main b").count() == 0
        await seen.page.get_by_role("link", name="All calls").click()
    assert await seen.page.title() == "Calls · callactors"
