"""Asks the server what it knows of a call, until that is what it should know, or patience ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from aiohttp import ClientError, ClientSession, ClientTimeout

from callactors.simulate.ledger import Difference, Ledger

_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 2.0
_TIMEOUT: Final = ClientTimeout(total=10.0)
_AT_ONCE: Final = 16
_OK: Final = 200
_FORBIDDEN: Final = (401, 403)


class Checked(NamedTuple):
    """What came out: how many sequences the server misses, and whether to ask again is of no use."""

    missing: int
    differences: list[Difference]
    is_final: bool = False


class Checker:
    """Asks about calls, about few at once; *key* must open what is asked."""

    def __init__(
        self,
        session: ClientSession,
        url: str,
        key: str | None,
        *,
        patience: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._url = f"{url}/v1/call/"
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._patience = patience
        self._sleep = sleep
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def check(self, ledger: Ledger) -> Checked:
        """Return where the server differs from *ledger* at last."""
        waited, wait = 0.0, _FIRST_WAIT
        while True:
            checked = await self._ask(ledger)
            if not checked.differences or checked.is_final or waited >= self._patience:
                return checked
            await self._sleep(wait)
            waited, wait = waited + wait, min(2 * wait, _LONGEST_WAIT)

    async def _ask(self, ledger: Ledger) -> Checked:
        url = self._url + quote(ledger.call_id, safe=":")
        try:
            async with (
                self._turns,
                self._session.get(url, headers=self._headers, timeout=_TIMEOUT) as response,
            ):
                if response.status != _OK:
                    found = ledger.differ("answer", "HTTP status 200", response.status)
                    return Checked(0, [found], is_final=response.status in _FORBIDDEN)
                answer: dict[str, Any] = await response.json()
        except (ClientError, OSError, ValueError) as error:
            return Checked(0, [ledger.differ("answer", "HTTP status 200", type(error).__name__)])
        missing = sum(stream["missing_count"] for stream in answer["streams"].values())
        return Checked(missing, ledger.compare(answer))
