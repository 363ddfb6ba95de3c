"""`/docs` in a real browser: it shows every route, tries one out, and asks nobody but the server."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

from callactors.system import CallSystem
from callactors.web.routes import ROUTES
from callactors.web.setup import routes, setup
from tests.browser.visit import Visit
from tests.scenes import OPTIONS, done

playwright = pytest.importorskip(
    "playwright.async_api", reason="no playwright here: `tox -e browser` has it", exc_type=ImportError
)
expect = playwright.expect
pytestmark = pytest.mark.timeout(120)

Open = Callable[..., Awaitable[Visit]]


@pytest.mark.parametrize("prefix", ["", "/voice"])
async def test_the_page_shows_every_route_and_tries_them_out(
    dsn: str, aiohttp_server: AiohttpServer, visit: Open, prefix: str
) -> None:
    app = web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS))
    if prefix:
        sub = web.Application()
        sub.add_routes(routes())
        app.add_subapp(prefix, sub)
    else:
        app.add_routes(routes())
    server = await aiohttp_server(app)
    seen = await visit(str(server.make_url(f"{prefix}/docs")))
    await expect(seen.page.locator(".opblock")).to_have_count(len(ROUTES))
    await expect(seen.page.get_by_text("OAS 3.1")).to_be_visible()
    route = seen.page.locator(".opblock", has_text="/v1/stats")
    await route.locator(".opblock-summary-control").click()
    await route.get_by_role("button", name="Try it out").click()
    await route.get_by_role("button", name="Execute").click()
    await expect(route.locator(".request-url")).to_contain_text(f"{prefix}/v1/stats")
    await expect(route.locator(".live-responses-table .response-col_status").last).to_have_text("200")


async def test_a_key_is_sent_with_what_is_tried_out(
    dsn: str, aiohttp_server: AiohttpServer, visit: Open
) -> None:
    app = web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS))
    app.add_routes(routes())
    seen = await visit(str((await aiohttp_server(app)).make_url("/docs")))
    seen.tolerated = ("401",)
    await seen.page.get_by_role("button", name="Authorize").first.click()
    dialog = seen.page.locator(".dialog-ux")
    await dialog.locator("input").fill("ca_0123456789ab_wrong")
    await dialog.get_by_role("button", name="Apply credentials").click()
    await dialog.get_by_role("button", name="Close").click()
    route = seen.page.locator(".opblock", has_text="/v1/call/{call_id}/events")
    await route.locator(".opblock-summary-control").click()
    await route.get_by_role("button", name="Try it out").click()
    await route.get_by_placeholder("call_id").fill("demo-1")
    await route.get_by_role("button", name="Execute").click()
    await expect(route.locator(".live-responses-table")).to_contain_text("/problems/unauthorized")
    for path in ("/ws/supervisor", "/v1/call/stream/{call_id}"):
        await seen.page.locator(".opblock", has_text=path).first.locator(".opblock-summary-control").click()
    await expect(seen.page.get_by_text("The server may send these as text frames")).to_be_visible()
    await seen.page.locator(".models-control").click()
    await expect(seen.page.get_by_text("ProblemDetails").last).to_be_visible()
