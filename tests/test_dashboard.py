"""The page's files: what they are sent with, and what is not sent again."""

import re

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

from callactors.web import dashboard
from callactors.web.problems import no_route
from callactors.web.setup import routes


def make_app() -> web.Application:
    app = web.Application()
    app.add_routes([*routes(), web.route("*", "/{path:.*}", no_route)])
    return app


async def test_every_file_that_the_page_names_is_there(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(make_app())
    waiting, seen = {"./"}, set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        response = await client.get(f"/{name}")
        assert response.status == 200, name
        text = await response.text()
        if name == "./":
            waiting |= set(re.findall(r'(?:href|src)="(dashboard/[^"]+)"', text))
        else:
            waiting |= {f"dashboard/{found}" for found in re.findall(r'from "\./([^"]+)"', text)}
        waiting -= seen
    shipped = {f"dashboard/{name}" for name in dashboard._read()} - {"dashboard/index.html"}
    assert seen - {"./"} == shipped


@pytest.mark.parametrize("path", ["/", "/dashboard/app.js", "/dashboard/app.css", "/dashboard/icon.svg"])
async def test_nothing_from_elsewhere_is_let_in(aiohttp_client: AiohttpClient, path: str) -> None:
    client = await aiohttp_client(make_app())
    headers = (await client.get(path)).headers
    policy = headers["Content-Security-Policy"].split("; ")
    assert policy == ["default-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Type"].endswith("; charset=utf-8")


@pytest.mark.parametrize("path", ["/", "/dashboard/app.js"])
async def test_what_a_browser_has_is_not_sent_again(aiohttp_client: AiohttpClient, path: str) -> None:
    client = await aiohttp_client(make_app())
    first = await client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    tag = first.headers["ETag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = await client.get(path, headers={"If-None-Match": known})
        assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    for unknown in ('"other"', "nonsense", '"', ""):
        again = await client.get(path, headers={"If-None-Match": unknown})
        assert (again.status, await again.read()) == (200, await first.read())


@pytest.mark.parametrize("name", ["index.html", "none.js", "..%2Fkeys.py", "__init__.py", "%00"])
async def test_other_names_are_not_found(aiohttp_client: AiohttpClient, name: str) -> None:
    client = await aiohttp_client(make_app())
    response = await client.get(f"/dashboard/{name}")
    told = await response.json(content_type="application/problem+json")
    assert (response.status, told["type"]) == (404, "/problems/not-found")


def test_no_file_makes_markup_of_text() -> None:
    scripts = {
        name: file.content.decode() for name, file in dashboard._read().items() if name.endswith(".js")
    }
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|createContextualFragment"
    )
    assert not {name for name, text in scripts.items() if forbidden.search(text)}
    page = dashboard._read()["index.html"].content.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! (type=\"module\" )?src=)|https?://", page)
