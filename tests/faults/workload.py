"""The senders: calls with several streams, repeats and packets out of order, sent in all three ways."""

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.acceptance.client import NO_ANSWER
from tests.acceptance.history import Content, Key
from tests.acceptance.server import Server
from tests.faults.evidence import FaultHistory, Op, Outcome

Item = tuple[Key, Content]

WAYS: Final = ("single", "single", "body", "socket")
STREAMS: Final = ("", "inbound", "outbound")
REPEATED: Final = 0.2
REORDERED: Final = 0.1
_BEHIND: Final = 12  # places that a packet may fall behind
_CONFLICT: Final = 0.01  # of the steps: a sequence that is acknowledged comes with other data
_AFTERWARDS: Final = 0.1  # of the calls: one more packet behind the complete
_READ: Final = 0.02
_BODY, _FRAMES = 25, 40  # packets that go together
_PAUSE: Final = 0.03  # after a step that failed; a real sender would heed Retry-After
_SILENCE: Final = 8.0  # seconds that a socket's sender waits for an ack


@dataclass(slots=True)
class CallPlan:
    """A call that is to be made: what waits to be sent, and what is known to be stored."""

    call_id: str
    way: str
    waiting: deque[Item]
    last_sequence: Mapping[str, int]
    more: Item | None
    stored: list[Item] = field(default_factory=list)
    is_completed: bool = False


def make_plan(call_id: str, size: int, rng: random.Random) -> CallPlan:
    """Return a call of *size* packets in 1-3 streams, some repeated and some out of order."""
    streams = STREAMS[: rng.randint(1, len(STREAMS))]
    places = [*range(size), *rng.sample(range(size), int(size * REPEATED))]
    ranks = {
        n: place + (rng.uniform(0, _BEHIND) if rng.random() < REORDERED else 0)
        for n, place in enumerate(places)
    }
    order = [places[n] for n in sorted(ranks, key=ranks.__getitem__)]
    items = [make_item(call_id, streams[p % len(streams)], p // len(streams) + 1) for p in order]
    last: dict[str, int] = {}
    for key, _ in items:
        last[key.stream] = max(last.get(key.stream, 0), key.sequence)
    more = make_item(call_id, "", last[""] + 1) if rng.random() < _AFTERWARDS else None
    return CallPlan(call_id, rng.choice(WAYS), deque(items), last if rng.random() < 0.5 else {}, more)


def make_item(call_id: str, stream: str, sequence: int) -> Item:
    """Return a packet; its data says what it is."""
    return Key(call_id, stream, sequence), Content(f"{call_id}/{stream}/{sequence}", float(sequence))


class Workload:
    """Senders that take turns at the calls; each step of a call is one operation in *history*.

    Each sender goes round *servers*, and what one of them refuses, or has not answered after *patience*
    seconds, goes to the next at once, until it is stored: nothing else has a turn of this sender before.
    Then the sender rests, for *rest* seconds on average. A call is over when its complete was acknowledged,
    and a new one takes its place until `end`.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        history: FaultHistory,
        seed: str,
        *,
        calls: int = 200,
        senders: int = 24,
        patience: float = 20.0,
        rest: float = 0.0,
        size: tuple[int, int] = (10, 50),
    ) -> None:
        self.servers = servers
        self.history = history
        self.finished = 0
        self._rng = random.Random(seed)
        self._size = size
        self._made = 0
        self._patience = patience
        self._rest = rest
        self._turns = [*range(senders)]
        self._is_over = False
        self._live = deque(self._new_call() for _ in range(calls))
        self._senders = senders
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Send until `end` was called and every call is over."""
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=self._patience)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session,
            asyncio.TaskGroup() as senders,
        ):
            for sender in range(self._senders):
                senders.create_task(self._send(sender))

    def end(self) -> None:
        """Make no new calls; send what is left of the others sooner."""
        self._is_over = True

    def _new_call(self) -> CallPlan:
        self._made += 1
        return make_plan(f"call-{self._made:06}", self._rng.randint(*self._size), self._rng)

    async def _send(self, sender: int) -> None:
        while self._live:
            plan = self._live.popleft()
            while not await self._step_somewhere(sender, plan):  # noqa: ASYNC110  # a pause, no poll
                await asyncio.sleep(_PAUSE)
            if self._rest:
                await asyncio.sleep(self._rest * self._rng.uniform(0.5, 1.5))
            if not plan.is_completed:
                self._live.append(plan)
                continue
            self.finished += 1
            if not self._is_over:
                self._live.append(self._new_call())

    async def _step_somewhere(self, sender: int, plan: CallPlan) -> bool:
        """Do one thing for the call, at one server after the other until it goes well somewhere."""
        for _ in self.servers:
            if await self._step(sender, plan):
                return True
        return False

    async def _step(self, sender: int, plan: CallPlan) -> bool:
        """Do one thing for the call, and return whether it went well."""
        if self._rng.random() < _READ and plan.stored:
            await self._read(sender, plan)
        if plan.stored and self._rng.random() < _CONFLICT:
            key, content = self._rng.choice(plan.stored)
            await self._single(sender, "conflict", key, Content("another " + content.data, content.timestamp))
        if not plan.waiting:
            return await self._complete(sender, plan)
        if plan.way == "body":
            return await self._body(sender, plan, self._take(plan, _BODY))
        if plan.way == "socket":
            return await self._socket(sender, plan, self._take(plan, _FRAMES))
        item = self._take(plan, 1)[0]
        is_stored = await self._single(sender, "packet", *item)
        self._settle(plan, [item], is_stored)
        return is_stored

    def _take(self, plan: CallPlan, count: int) -> list[Item]:
        return [plan.waiting.popleft() for _ in range(min(count, len(plan.waiting)))]

    def _settle(self, plan: CallPlan, items: Sequence[Item], stored: int) -> None:
        """Keep the first *stored* of *items* as stored, and the rest to be sent again."""
        plan.stored.extend(items[:stored])
        plan.waiting.extendleft(reversed(items[stored:]))

    async def _single(self, sender: int, kind: str, key: Key, content: Content) -> bool:
        op = self._begin(sender, kind, key.call_id, [(key, content)])
        answer = await self._post(op, f"/v1/call/stream/{key.call_id}", json=_packet(key, content))
        if answer is not None and op.outcome is Outcome.OK:
            self._acknowledge([(key, content)])
        return op.outcome is Outcome.OK

    async def _body(self, sender: int, plan: CallPlan, items: Sequence[Item]) -> bool:
        op = self._begin(sender, "body", plan.call_id, items)
        lines = "".join(f"{json.dumps(_packet(*item))}\n" for item in items)
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await self._post(op, f"/v1/call/stream/{plan.call_id}", data=lines, headers=headers)
        stored = len(items) if op.outcome is Outcome.OK else 0
        if op.outcome is Outcome.REFUSED and isinstance(answer, dict):
            stored = answer.get("stored", 0)
        self._acknowledge(items[:stored])
        self._settle(plan, items, stored)
        return stored == len(items)

    async def _socket(self, sender: int, plan: CallPlan, items: Sequence[Item]) -> bool:
        """Send a frame for each of *items* on a connection of its own, until all are answered."""
        turn = self._turns[sender]
        ops = [self._begin(sender, "frame", plan.call_id, [item], turn) for item in items]
        refused: set[int] = set()
        answered = 0
        try:
            async with self._open().ws_connect(self._url(ops[0], f"/v1/call/stream/{plan.call_id}")) as ws:
                for item in items:
                    await ws.send_str(json.dumps(_packet(*item)))
                while answered < len(items):
                    message = await ws.receive(timeout=min(_SILENCE, self._patience))
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        break
                    told = json.loads(message.data)
                    if told["type"] == "refused":
                        refused.add(told["frame"] - 1)
                        _refuse(ops[told["frame"] - 1], told["problem"]["status"], told["problem"], True)
                    elif told["type"] == "ack":
                        new = [n for n in range(answered, told["frames"]) if n not in refused]
                        self._answer_frames([ops[n] for n in new], [items[n] for n in new])
                        answered = told["frames"]
        except aiohttp.WSServerHandshakeError as error:
            told = {"type": "/problems/draining"} if error.status == 503 else None  # the body is not kept
            for op in ops:
                _refuse(op, error.status, told, True)
        except NO_ANSWER:
            pass
        self._end(ops)
        stored = [op.outcome is Outcome.OK for op in ops]
        plan.stored.extend(item for item, is_stored in zip(items, stored, strict=True) if is_stored)
        plan.waiting.extendleft(
            reversed([item for item, is_stored in zip(items, stored, strict=True) if not is_stored])
        )
        return all(stored)

    def _answer_frames(self, ops: Iterable[Op], items: Sequence[Item]) -> None:
        for op in ops:
            op.outcome = Outcome.OK
            op.ended_at = _now()
        self._acknowledge(items)

    async def _complete(self, sender: int, plan: CallPlan) -> bool:
        self.history.completes_sent.add(plan.call_id)
        op = self._begin(sender, "complete", plan.call_id, [])
        told = {"last_sequence": plan.last_sequence} if plan.last_sequence else {}
        await self._post(op, f"/v1/call/complete/{plan.call_id}", json=told)
        if op.outcome is not Outcome.OK:
            return False
        self.history.completed.add(plan.call_id)
        if plan.more is not None:
            await self._single(sender, "packet", *plan.more)
        plan.is_completed = True
        return True

    async def _read(self, sender: int, plan: CallPlan) -> None:
        op = self._begin(sender, "read", plan.call_id, [])
        await self._ask(op, lambda: self._open().get(self._url(op, f"/v1/call/{plan.call_id}")))

    async def _post(self, op: Op, path: str, **options: Any) -> Any:
        return await self._ask(op, lambda: self._open().post(self._url(op, path), **options))

    async def _ask(self, op: Op, request: Callable[[], Any]) -> Any:
        """Send *request*, write down what came of it, and return the JSON that was told, if any."""
        told: Any = None
        try:
            async with request() as response:
                text = await response.text()
                told = json.loads(text) if response.content_type.endswith("json") else None
                if response.status in (200, 202):
                    op.outcome = Outcome.OK
                else:
                    _refuse(op, response.status, told, "Retry-After" in response.headers)
        except NO_ANSWER:
            op.outcome = Outcome.UNKNOWN
        self._end([op])
        return told

    def _begin(
        self, sender: int, kind: str, call_id: str, items: Sequence[Item], turn: int | None = None
    ) -> Op:
        """Write down what the sender's next server is to get, or that of *turn*."""
        if turn is None:
            turn = self._turns[sender]
        self._turns[sender] = turn + 1
        return self.history.begin(sender, kind, call_id, items, _now(), turn % len(self.servers))

    def _end(self, ops: Iterable[Op]) -> None:
        now = _now()
        for op in ops:
            op.ended_at = op.ended_at or now

    def _acknowledge(self, items: Sequence[Item]) -> None:
        self.history.acknowledge(items, _now())

    def _url(self, op: Op, path: str) -> str:
        return self.servers[op.server].url + path

    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "run first"
        return self._session


def _packet(key: Key, content: Content) -> dict[str, Any]:
    packet = {"sequence": key.sequence, "data": content.data, "timestamp": content.timestamp}
    return {**packet, "stream": key.stream} if key.stream else packet


def _refuse(op: Op, status: int, told: Any, has_retry_after: bool) -> None:
    op.outcome = Outcome.REFUSED
    op.status = status
    op.has_retry_after = has_retry_after
    if isinstance(told, dict) and str(told.get("type", "")).startswith("/problems/"):
        op.slug = told["type"].removeprefix("/problems/")


def _now() -> float:
    return asyncio.get_running_loop().time()
