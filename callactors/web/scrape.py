"""`/metrics`: what a server counts, in the text format of Prometheus."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Final

from aiohttp import web

from callactors.errors import StorageUnavailable
from callactors.system import CallSystem
from callactors.web.guard import GRANT
from callactors.web.keys import get_calls
from callactors.web.problems import ProblemCounts

_MAX_AGE: Final = 10.0  # seconds: however many scrape, calls are not counted more often
_PATIENCE: Final = 0.5  # seconds that a scrape waits for that
_TEXT: Final = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class Metrics:
    """What *system* counts, and of *problems* those that its front answered with."""

    def __init__(self, system: CallSystem, problems: ProblemCounts) -> None:
        self._system = system
        self._problems = problems

    @cached_property
    def write(self) -> Callable[[], bytes]:
        """Returns it as it is now."""
        from callactors.web.metrics import make_writer  # noqa: PLC0415  only who is scraped needs Prometheus

        return make_writer(self._system, self._problems)


METRICS: Final = web.AppKey("callactors_metrics", Metrics)


async def metrics(request: web.Request) -> web.Response:
    """Tell what this server counts, in the text format of Prometheus.

    While the database does not answer, the counts of calls are missing.
    """
    request[GRANT].check_all()
    with suppress(StorageUnavailable, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            await get_calls(request).stats.read(max_age=_MAX_AGE)
    return web.Response(body=request.config_dict[METRICS].write(), headers=_TEXT)
