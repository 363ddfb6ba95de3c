"""How the system and its routes get into an aiohttp application."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Final

from aiohttp import web

from callactors.packets import build_models
from callactors.system import CallSystem
from callactors.web.docs import DOCS, Docs, make_docs
from callactors.web.guard import GUARD, Authorize, Guard, GuardRules
from callactors.web.keys import SYSTEM
from callactors.web.limits import LIMITS, Limits
from callactors.web.media import MEDIA_STREAMS
from callactors.web.pacing import PACE, Pace
from callactors.web.problems import PROBLEM_COUNTS
from callactors.web.routes import ROUTES
from callactors.web.scrape import METRICS, Metrics
from callactors.web.vendor_access import VENDOR_RULES, VendorRules


def setup(
    app: web.Application,
    system: AbstractAsyncContextManager[CallSystem],
    *,
    rules: GuardRules | None = None,
    limits: Limits | None = None,
    authorize: Authorize | None = None,
    vendors: VendorRules | None = None,
) -> None:
    """Give *system* the lifetime of *app*: it starts with the app, and drains behind the last handler.

    One application has one system, which its sub-apps share; a second one has a sub-app of its own, whose
    `add_subapp` comes after this. *authorize* decides in place of keys. *vendors* says how those of telephony
    are taken.

    Raises:
        RuntimeError: *app* has a system.
    """
    if GUARD in app:
        raise RuntimeError("this application has its calls: set others up on a sub-app of their own")
    app[LIMITS] = limits = limits or Limits()
    app[PACE] = Pace(limits.refusals)
    app[GUARD] = Guard(rules or GuardRules(), limits, authorize)
    app[DOCS] = _docs
    app[VENDOR_RULES] = vendors or VendorRules()
    app[MEDIA_STREAMS] = {}
    app[PROBLEM_COUNTS] = Counter()

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        build_models()
        async with system as started:
            app[SYSTEM] = started
            app[METRICS] = Metrics(started, app[PROBLEM_COUNTS])
            yield

    app.cleanup_ctx.append(lifetime)
    app.on_shutdown.append(_drain)


def routes(*, prefix: str = "") -> list[web.RouteDef]:
    """Return the routes of the API and the page, below *prefix*, such as "/voice"."""
    return [route.make(prefix) for route in ROUTES]


def _make_docs() -> Docs:
    from callactors.web.openapi import describe  # noqa: PLC0415  its many models are only for who reads it

    return make_docs(describe(ROUTES))


_docs: Final[Callable[[], Docs]] = cache(_make_docs)


async def _drain(app: web.Application) -> None:
    app[SYSTEM].drain()
