"""`/openapi.json` and `/docs`: what is sent, what is not sent again, and what works without the extra."""

import re

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from callactors.system import CallSystem
from callactors.web import docs
from callactors.web.openapi import describe
from callactors.web.routes import ROUTES
from callactors.web.setup import routes, setup
from tests.scenes import OPTIONS, done, make_app

POLICY = {
    "default-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "img-src 'self' data:",
}
PATHS = ["/openapi.json", "/docs", *(f"/docs/{name}" for name in docs._read_ui())]


@pytest.mark.parametrize("path", PATHS)
async def test_what_a_browser_has_is_not_sent_again(
    dsn: str, aiohttp_client: AiohttpClient, path: str
) -> None:
    client = await aiohttp_client(make_app(dsn))
    first = await client.get(path)
    assert (first.status, first.headers["Cache-Control"]) == (200, "no-cache")
    assert set(first.headers["Content-Security-Policy"].split("; ")) == POLICY
    assert first.headers["X-Content-Type-Options"] == "nosniff"
    again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    changed = await client.get(path, headers={"If-None-Match": '"other"'})
    assert (changed.status, await changed.read()) == (200, await first.read())


async def test_the_description_is_served_in_a_sub_app(dsn: str, aiohttp_client: AiohttpClient) -> None:
    app, sub = web.Application(), web.Application()
    setup(app, CallSystem(dsn, done, OPTIONS))
    sub.add_routes(routes())
    app.add_subapp("/voice", sub)
    client = await aiohttp_client(app)
    response = await client.get("/voice/openapi.json")
    assert await response.json() == describe(ROUTES)
    page = await (await client.get("/voice/docs")).text()
    for name in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert (await client.get(f"/voice/{name}")).status == 200, name


@pytest.mark.parametrize("name", ["index.html", "none.js", "..%2Fkeys.py", "swagger-ui.js"])
async def test_other_names_are_not_found(dsn: str, aiohttp_client: AiohttpClient, name: str) -> None:
    client = await aiohttp_client(make_app(dsn))
    response = await client.get(f"/docs/{name}")
    told = await response.json(content_type="application/problem+json")
    assert (response.status, told["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("wheel", ["not_installed_anywhere", "callactors"])
def test_without_a_swagger_ui_the_page_is_a_list_of_the_routes(
    monkeypatch: pytest.MonkeyPatch, wheel: str
) -> None:
    monkeypatch.setattr(docs, "_WHEEL", wheel)
    monkeypatch.setattr(docs, "_read_ui", docs._read_ui.__wrapped__)
    assert docs._read_ui() == {}
    page = docs.make_docs(describe(ROUTES)).page.content.decode()
    for route in ROUTES:
        assert f"<code>{route.method} {route.path}</code>" in page
    assert not re.search(r"<script|<style|\sstyle=|https?://", page)
    assert 'href="openapi.json"' in page
