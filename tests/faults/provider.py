"""A fake AI provider that fails, hangs and answers late, each as its seed says."""

import asyncio
import random
import uuid
from contextlib import suppress
from enum import StrEnum
from typing import Final, Self

from aiohttp import web

from tests.faults.evidence import Request

_FAILURES: Final = (500, 502, 503, 504)
_CLOSE_TIMEOUT: Final = 1.0


class Behaviour(StrEnum):
    """What the provider does with a request."""

    ANSWER = "answer"
    FAIL = "fail"
    HANG = "hang"
    LATE = "late"


class Provider:
    """Listens on loopback while it is entered. The same seed does the same to the same attempt of a call.

    A late answer comes *late* seconds after the request: choose more than the caller's patience.
    """

    def __init__(
        self,
        seed: int | str,
        *,
        late: float = 2.0,
        failure_rate: float = 0.3,
        hang_rate: float = 0.1,
        late_rate: float = 0.05,
    ) -> None:
        self.url = ""
        self.requests: list[Request] = []
        """In the order of arrival; one gets its token when it is answered with success."""
        self.is_away = False
        """While it is, every request is answered with 503 at once."""
        self._seed = seed
        self._late = late
        self._rates = {
            Behaviour.FAIL: failure_rate,
            Behaviour.HANG: hang_rate,
            Behaviour.LATE: late_rate,
            Behaviour.ANSWER: 1 - failure_rate - hang_rate - late_rate,
        }
        self._closing = asyncio.Event()
        app = web.Application()
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_TIMEOUT)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

    def choose(self, call_id: str, generation: int, attempt: int) -> Behaviour:
        """Return what is done with this attempt, unless the provider is away."""
        rng = random.Random(f"{self._seed}/{call_id}/{generation}/{attempt}")
        return rng.choices([*self._rates], weights=[*self._rates.values()])[0]

    async def _answer(self, http: web.Request) -> web.Response:
        told = await http.json()
        attempt = (told["call_id"], told["generation"], told["attempt"])
        number, request = len(self.requests), Request(http.headers["Idempotency-Key"], *attempt, None)
        self.requests.append(request)
        behaviour = Behaviour.FAIL if self.is_away else self.choose(*attempt)
        if behaviour is Behaviour.FAIL:
            status = 503 if self.is_away else _FAILURES[request.attempt % len(_FAILURES)]
            return web.Response(status=status)
        if behaviour is Behaviour.HANG:
            await self._closing.wait()
        if behaviour is Behaviour.LATE:
            await self._wait()
        if self._closing.is_set():
            return web.Response(status=503)
        token = uuid.uuid4().hex
        self.requests[number] = request._replace(token=token)
        return web.json_response({"token": token})

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._late):
                await self._closing.wait()
