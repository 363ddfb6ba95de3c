"""The connection to NATS: what is subscribed, what is sent, and whether any of it arrives."""

import asyncio
import logging
from asyncio import Task
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote, unquote

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, StaleConnectionError

from callactors.cluster.connection import TROUBLE, NatsOptions, close, connect, make_client

log = logging.getLogger(__name__)

_PROBE_INTERVAL: Final = 0.5
_PATIENCE: Final = 1.0  # seconds that a message to ourselves may take
_RENEWAL: Final = 10.0  # seconds of silence behind which a connection is made anew that answers pings
_RECONNECT_WAIT: Final = 0.1
_TOGETHER: Final = 64  # of what is sent, or of subscriptions that end, between two turns of others
_TELL_INTERVAL: Final = 10.0  # seconds between two lines of the log that say what is wrong
_SELF: Final = "self"
HEADROOM: Final = 1_024
"""Bytes of a message beside its payload."""

_Act = Callable[[Client], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Subjects:
    """Whose subject is which, below *root*; *boot* is the last token of this server's answers."""

    root: str
    boot: str

    def of_call(self, call_id: str) -> str:
        return f"{self.root}.call.{quote(call_id, safe=':').replace('.', '%2E')}"

    def read_call(self, subject: str) -> str:
        return unquote(subject.rpartition(".")[2])

    def of_answer(self, token: str) -> str:
        return f"{self.root}.answer.{self.boot}.{token}"

    @property
    def poke(self) -> str:
        return f"{self.root}.poke"


class Link:
    """Keeps a connection for ever; while there is none, nothing is sent and nothing kept to be sent.

    *on_request* is called with the messages for the calls that are held, *on_answer* with the token and the
    message of those to our own subject, *on_poke* for each poke of others, *on_change* when `is_up` changes.
    """

    def __init__(
        self,
        options: NatsOptions,
        subjects: Subjects,
        *,
        on_request: Callable[[Msg], None],
        on_answer: Callable[[str, Msg], None],
        on_poke: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self._options = options
        self._subjects = subjects
        self._on_request = on_request
        self._on_answer = on_answer
        self._on_poke = on_poke
        self._on_change = on_change
        self._was_up = False
        self._client: Client | None = None
        self._max_payload = 0
        self._held: dict[str, Subscription | None] = {}  # None: it is still to be subscribed
        self._out: deque[_Act] = deque()
        self._has_out = asyncio.Event()
        self._again: deque[_Act] = deque()  # behind all of the other: a new connection's old subscriptions
        self._ending: deque[Subscription] = deque()
        self._draining: Task[None] | None = None
        self._unheard_since: float | None = float("-inf")
        self._told_at = float("-inf")

    @property
    def is_up(self) -> bool:
        """Whether what we send to ourselves arrives, or has not been away for long."""
        return self._unheard_since is None or _now() - self._unheard_since < _PATIENCE

    @property
    def max_payload(self) -> int:
        """How many bytes a message may have."""
        return self._max_payload

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            client, closed = make_client(self._options), asyncio.Event()
            try:
                self._options.check_files()  # the library goes on for ever with one that is cut off
                await self._connect(client, closed)
                await self._serve(client, closed)
            except Exception as error:  # noqa: BLE001  # whatever it is, there is another attempt
                self._tell_trouble(client.last_error or error)
            finally:
                self._lose()
                await close(client)
            await asyncio.sleep(_RECONNECT_WAIT)

    def poke(self) -> None:
        """Send a poke to the others."""
        self.send(self._subjects.poke, self._subjects.boot.encode())

    def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send *payload* soon, behind all that was asked for before."""
        self._put(partial(_publish, subject, payload, reply))

    def hold(self, call_id: str) -> None:
        """Subscribe to the call's subject."""
        if call_id not in self._held:
            self._held[call_id] = None
            self._put(partial(self._subscribe, call_id))

    def let_go(self, call_id: str) -> None:
        """Subscribe to it no more; what is under way still comes."""
        subscription = self._held.pop(call_id, None)
        if subscription is not None:
            self._end(subscription)

    @property
    def held(self) -> list[str]:
        """The calls whose subjects are ours."""
        return [*self._held]

    async def _connect(self, client: Client, closed: asyncio.Event) -> None:
        async def on_closed() -> None:
            closed.set()

        await connect(
            client,
            self._options,
            name=f"callactors {self._subjects.boot}",
            on_error=self._on_error,
            on_closed=on_closed,
        )

    async def _serve(self, client: Client, closed: asyncio.Event) -> None:
        await client.subscribe(self._subjects.of_answer("*"), cb=self._take_answer)
        await client.subscribe(self._subjects.poke, cb=self._take_poke)
        self._again.extend(partial(self._subscribe, call_id) for call_id in self._held)
        self._held = dict.fromkeys(self._held)
        self._unheard_since = None
        self._client, self._max_payload = client, client.max_payload
        self._tell_change()
        log.info("NATS is there: %s", client.connected_url.netloc if client.connected_url else "")
        tasks = [asyncio.create_task(work) for work in (self._write(client), self._probe())]
        waiting = asyncio.create_task(closed.wait())
        try:
            await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, waiting):
                task.cancel()
            ended, _ = await asyncio.wait(tasks, timeout=_PATIENCE)  # the client may swallow it
        for task in ended:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        raise ConnectionClosedError

    def _lose(self) -> None:
        """Be without a connection, but not at once be down: another NATS server may be there in a moment."""
        if self._client is None:
            return
        self._client = None
        self._out.clear()
        self._again.clear()
        if self._unheard_since is None:
            self._unheard_since = _now()
        asyncio.get_running_loop().call_later(_PATIENCE, self._tell_change)

    def _put(self, act: _Act) -> None:
        if self._client is not None:
            self._out.append(act)
            self._has_out.set()

    async def _write(self, client: Client) -> None:
        written = 0
        while client.is_connected:
            await self._has_out.wait()
            self._has_out.clear()
            while (queue := self._out or self._again) and self._client is client:
                try:
                    await queue.popleft()(client)
                except Exception as error:
                    if not client.is_connected:
                        raise
                    self._tell_trouble(error)  # of this one; the others go on
                written += 1
                if not written % _TOGETHER:
                    await asyncio.sleep(0)

    def _tell_change(self) -> None:
        if self.is_up is not self._was_up:
            self._was_up = not self._was_up
            if not self._was_up:
                log.warning("NATS is away: calls are claimed where they are asked for")
            self._on_change()

    async def _subscribe(self, call_id: str, client: Client) -> None:
        if self._held.get(call_id, self) is not None:
            return  # it is subscribed, or let go again
        subscription = await client.subscribe(self._subjects.of_call(call_id), cb=self._take_request)
        if call_id in self._held:
            self._held[call_id] = subscription
        else:
            self._end(subscription)

    def _end(self, subscription: Subscription) -> None:
        self._ending.append(subscription)
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        while self._ending:
            together = [self._ending.popleft() for _ in range(min(len(self._ending), _TOGETHER))]
            await asyncio.gather(*map(_drain, together))

    async def _probe(self) -> None:
        """Send ourselves something again and again; a connection that brings nothing is made anew."""
        while True:
            if self._unheard_since is None:
                self._unheard_since = _now()
            elif _now() - self._unheard_since > _RENEWAL:
                raise StaleConnectionError
            # In front of what waits, of which there may be so much that it would look like silence.
            self._out.appendleft(partial(_publish, self._subjects.of_answer(_SELF), b"", ""))
            self._has_out.set()
            self._tell_change()
            await asyncio.sleep(_PROBE_INTERVAL)

    async def _take_request(self, message: Msg) -> None:
        self._on_request(message)

    async def _take_answer(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        if token == _SELF:
            self._unheard_since = None
            self._tell_change()
        else:
            self._on_answer(token, message)

    async def _take_poke(self, message: Msg) -> None:
        if message.data != self._subjects.boot.encode():
            self._on_poke()

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, TROUBLE):
            self._tell_trouble(error)
        else:
            log.error("a message could not be taken", exc_info=error)

    def _tell_trouble(self, error: Exception) -> None:
        """Say what is wrong, but not each time: one thing may be wrong with each packet."""
        if _now() - self._told_at < _TELL_INTERVAL:
            log.debug("trouble with NATS: %s", _name(error))
        else:
            self._told_at = _now()
            log.warning("trouble with NATS: %s", _name(error))


async def _publish(subject: str, payload: bytes, reply: str, client: Client) -> None:
    if client.is_connected:  # else who asked finds out by the silence
        await client.publish(subject, payload, reply)


async def _drain(subscription: Subscription) -> None:
    with suppress(*TROUBLE):
        async with asyncio.timeout(_RENEWAL):  # it waits for ever if the connection closes meanwhile
            await subscription.drain()  # type: ignore[no-untyped-call]


def _name(error: Exception) -> str:
    return str(error) or type(error).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
