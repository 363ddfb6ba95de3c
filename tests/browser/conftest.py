"""A browser, pages that report what goes wrong in them, and servers; skipped where there is no browser."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import connect
from tests.acceptance.fixtures import Serve
from tests.acceptance.server import QUICK, Server

if TYPE_CHECKING:
    from playwright.async_api import Browser

from tests.browser.visit import Visit

__all__ = ["connect"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
async def browser() -> AsyncIterator["Browser"]:
    """A browser of the system's."""
    playwright = pytest.importorskip(
        "playwright.async_api", reason="no playwright here: `tox -e browser` has it", exc_type=ImportError
    )
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser here: install one of {', '.join(_BROWSERS)}")
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=program)
        yield browser
        await browser.close()


@pytest.fixture
async def visit(browser: "Browser") -> AsyncIterator[Callable[..., Awaitable[Visit]]]:
    """Open a page in a context of its own; at the end of the test nothing must have gone wrong in it."""
    visits: list[Visit] = []

    async def open_page(url: str, *, origin: str | None = None, **context: Any) -> Visit:
        page = await (await browser.new_context(**context)).new_page()
        visits.append(Visit(page, origin or url))
        await page.goto(url)
        return visits[-1]

    yield open_page
    for opened in visits:
        opened.check()


@pytest.fixture
async def serve(browser: "Browser", dsn: str, tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server on the test's database with quick settings and those given by keyword."""
    async with AsyncExitStack() as stack:

        async def start(**settings: str | float) -> Server:
            place = Path(tempfile.mkdtemp(prefix="server-", dir=tmp_path))
            return await stack.enter_async_context(Server(place, dsn=dsn, settings={**QUICK, **settings}))

        yield start
