"""The deliveries: endpoints of webhooks are told how calls ended, until they say that they know."""

import asyncio
import logging
import random
import time
from asyncio import TaskGroup
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from aiohttp import ClientConnectorError, ClientError, ClientSession

from callactors.logs import CallLog
from callactors.processors.sessions import PrivateAddress, name_error, open_session, read_retry_after
from callactors.signing import read_secret, sign_whole
from callactors.store import deliveries
from callactors.store.connection import Connection, Session
from callactors.store.deliveries import Backlog, Delivery, Settled
from callactors.webhooks import MAX_PAUSE, find_fault, is_loopback, next_wait

log = logging.getLogger(__name__)

AT_ONCE: Final = 10
"""Attempts that run at once for an endpoint, on a server."""
_INTERVAL: Final = 1.0
_PACE: Final = 0.02  # seconds: what is due so close together is taken together
_BACKLOG_INTERVAL: Final = 10.0
_MARGIN: Final = 10.0  # seconds that the lease is longer than an attempt, for what came of it to be committed
_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "callactors"}
_LAST: Final = 1.0  # seconds that a stop waits for the database to take what came of the last attempts
_GONE: Final = 410
_PAUSING: Final = (429, 503)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """How endpoints are asked: *timeout* is the seconds that one has for its answer.

    Private addresses, and http without TLS, are only for URLs that name this machine unless they are allowed.
    """

    timeout: float = 20.0
    is_private_allowed: bool = False


class _Answer(NamedTuple):
    """What an endpoint answered, or why it did not: then the *status* is 0."""

    text: str
    status: int = 0
    retry_after: float | None = None


class Deliveries:
    """Delivers what is due, whichever server has committed it; several may do it at once.

    What is due is looked for every second, at start, and when it is poked. *clock* tells seconds since 1970,
    *rng* returns a number in [0, 1).
    """

    def __init__(
        self,
        dsn: str,
        options: DeliveryOptions,
        *,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._clock = clock
        self._rng = rng
        self._session = Session(dsn, "deliveries")
        self._wake = asyncio.Event()
        self._has_endpoints = False
        self._busy: Counter[str] = Counter()
        self._settled: list[Settled] = []
        self._backlog_at = -_BACKLOG_INTERVAL
        self.attempts = {"delivered": 0, "failed": 0, "given_up": 0, "gone": 0}
        """How many attempts there were, by what came of them."""
        self.backlog = Backlog(0, 0.0)

    def close(self) -> None:
        self._session.close()

    def poke(self) -> None:
        """Look now: something may have been committed. Without endpoints this does nothing."""
        if self._has_endpoints:
            self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then is given back, for any server to take."""
        try:
            await self._run()
        finally:
            with suppress(TimeoutError):  # else it is due again when its lease is over
                async with asyncio.timeout(_LAST):
                    await self._write_down()

    async def _run(self) -> None:
        open_one = partial(open_session, _HEADERS, connections=0, connect_timeout=self._options.timeout)
        is_private_allowed = self._options.is_private_allowed
        async with (
            open_one(is_private_allowed=is_private_allowed) as session,
            open_one(is_private_allowed=True) as own,
            TaskGroup() as attempts,
        ):
            while True:
                self._wake.clear()
                await self._write_down()
                for delivery in await self._look():
                    self._busy[delivery.endpoint_id] += 1
                    chosen = own if is_loopback(delivery.url) else session
                    attempts.create_task(self._attempt(chosen, delivery))
                await asyncio.sleep(_PACE)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_INTERVAL):
                        await self._wake.wait()

    async def _write_down(self) -> None:
        if settled := list(self._settled):
            await self._session.run(partial(deliveries.settle, settled=settled))
            del self._settled[: len(settled)]

    async def _look(self) -> list[Delivery]:
        self._has_endpoints = await self._session.run(deliveries.has_endpoints)
        if not self._has_endpoints:
            self.backlog = Backlog(0, 0.0)
            return []
        now = asyncio.get_running_loop().time()
        if now - self._backlog_at >= _BACKLOG_INTERVAL:
            self.backlog = await self._session.run(deliveries.read_backlog)
            self._backlog_at = now
        return await self._session.run(self._take)

    async def _take(self, connection: Connection) -> list[Delivery]:
        lease = self._options.timeout + _MARGIN
        return await deliveries.take(connection, +self._busy, most=AT_ONCE, lease=lease)

    async def _attempt(self, session: ClientSession, delivery: Delivery) -> None:
        try:
            answer = await self._ask(session, delivery)
        except asyncio.CancelledError:
            self._settled.append(Settled(delivery, "the server has stopped", wait=0.0))
            raise
        finally:
            self._busy[delivery.endpoint_id] -= 1
        self._settled.append(self._judge(delivery, answer))
        self._wake.set()

    async def _ask(self, session: ClientSession, delivery: Delivery) -> _Answer:
        """Return what an endpoint answers, of which only the status and Retry-After are read."""
        fault = find_fault(delivery.url, is_private_allowed=self._options.is_private_allowed)
        if fault is not None:
            return _Answer(fault)
        try:
            signing = [read_secret(secret) for secret in delivery.secrets]
            headers = sign_whole(signing, delivery.message_id, int(self._clock()), delivery.body)
            post = session.post(delivery.url, data=delivery.body, headers=headers, allow_redirects=False)
            async with asyncio.timeout(self._options.timeout), post as response:
                asked = read_retry_after(response.headers.get("Retry-After"), self._clock())
                return _Answer(str(response.status), response.status, asked)
        except TimeoutError:
            return _Answer(f"no answer within {self._options.timeout:g} s")
        except (ClientError, OSError, ValueError) as error:
            return _Answer(_explain(error))

    def _judge(self, delivery: Delivery, answer: _Answer) -> Settled:
        """Return what follows from an *answer*, count it, and say it in the log."""
        log_of_call = CallLog(log, delivery.call_id)
        endpoint = delivery.endpoint_id
        if 200 <= answer.status <= 299:
            self.attempts["delivered"] += 1
            log_of_call.info("%s is delivered to endpoint %s", delivery.message_id, endpoint)
            return Settled(delivery, answer.text, is_delivered=True)
        wait = next_wait(delivery.attempt, answer.retry_after, self._rng)
        if answer.status == _GONE:
            self.attempts["gone"] += 1
            log.error(
                "endpoint %s answered 410 and is disabled: 'callactors webhooks enable' undoes it", endpoint
            )
            return Settled(delivery, answer.text, wait=wait, is_gone=True)
        told = (delivery.message_id, endpoint, answer.text)
        if wait is None:
            self.attempts["given_up"] += 1
            log_of_call.error("%s is given up, endpoint %s: %s", *told)
        else:
            self.attempts["failed"] += 1
            log_of_call.warning("%s is not delivered, endpoint %s: %s; again in %.0f s", *told, wait)
        pause = answer.retry_after if answer.status in _PAUSING else None
        return Settled(delivery, answer.text, wait=wait, pause=pause and min(pause, MAX_PAUSE))


def _explain(error: ClientError | OSError | ValueError) -> str:
    """Return what went wrong; the text tells no more of the endpoint than a kind."""
    if isinstance(error, ValueError):
        return "it cannot be sent: the URL or the secret is none"
    if isinstance(error, ClientConnectorError):
        if isinstance(error.os_error, PrivateAddress):
            return "it has a private address: set CALLACTORS_WEBHOOK_ALLOW_PRIVATE if it may have one"
        return f"no connection: {name_error(error.os_error)}"
    return f"the connection failed: {type(error).__name__}"
