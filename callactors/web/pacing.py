"""The pace of refusals: whoever is wrong all the time is answered later, and all others in time."""

import asyncio
import random
from time import monotonic
from typing import Final

from aiohttp import web

from callactors.web.buckets import Bucket

_WAIT: Final = 1.0


class Pace:
    """Lets up to *rate* refusals a second go at once, and each one more wait a second or so.

    A connection has one request at a time, so its next one waits with it.
    """

    def __init__(self, rate: float) -> None:
        self._bucket = Bucket(rate, burst=rate)

    async def wait(self) -> None:
        """Return when a refusal may be told."""
        if not self._bucket.take(monotonic()):
            await asyncio.sleep(_WAIT * random.uniform(0.5, 1))  # noqa: S311


PACE: Final = web.AppKey("callactors_pace", Pace)


async def pace(request: web.Request) -> None:
    """Wait until *request* may be refused."""
    found = request.config_dict.get(PACE)
    if found is not None:
        await found.wait()
