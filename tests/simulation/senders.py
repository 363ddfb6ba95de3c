"""Senders: each does its operations one after the other, and tries again where a client should."""

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from callactors.errors import Unavailable
from callactors.messages import BeginStream, DropStream, EndStream, FromVendor, TellStatus
from callactors.packets import CompleteRequest, EndReason, Packet
from callactors.system import CallSystem
from tests.simulation.checks import check_order, pair
from tests.simulation.plan import Deed, Operation
from tests.simulation.servers import Lost, Request, Server

_RETRY_INTERVAL: Final = 0.1
_COMPLETE: Final = CompleteRequest()


async def send_all(
    operations: Iterable[Operation], servers: Sequence[Server], violate: Callable[[str], None]
) -> None:
    """Do *operations*, those of one sender."""
    for operation in operations:
        await asyncio.sleep(operation.pause)
        packets, place = operation.packets, operation.server
        for _ in range(operation.tries):
            answers = await perform(operation, packets, servers[place % len(servers)], violate)
            if not any(isinstance(answer, Unavailable | Lost) for _, answer in answers):
                break
            packets = tuple(one for one, answer in answers if one and isinstance(answer, Unavailable | Lost))
            place += any(isinstance(answer, Lost) for _, answer in answers)
            await asyncio.sleep(_RETRY_INTERVAL)


async def perform(
    operation: Operation, packets: Sequence[Packet], server: Server, violate: Callable[[str], None]
) -> list[tuple[Packet | None, object]]:
    """Return what is answered to each packet, or else to the whole."""
    loop = asyncio.get_running_loop()
    requests = _make_requests(operation, packets)
    server.send(requests)
    for request in requests:
        loop.call_later(operation.patience, request.hang_up)
    answered = [(request, await request.answered) for request in requests]
    if not packets:
        return [(None, answer) for _, answer in answered]
    answers = [answer for request, one in answered for answer in pair(request.packets, one)]
    for finding in check_order(answers):
        violate(f"{operation.call_id}: {finding}")
    return [*answers]


def _make_requests(operation: Operation, packets: Sequence[Packet]) -> list[Request]:
    if operation.deed is Deed.SEND:
        return [
            Request(operation, [one], partial(CallSystem.accept, call_id=operation.call_id, packet=one))
            for one in packets
        ]
    parts = [operation]
    if operation.deed is Deed.START_OVER:
        parts = [replace(operation, deed=deed) for deed in (Deed.CANCEL, Deed.RETRY)]
    return [Request(part, packets, partial(_ask, part, packets)) for part in parts]


def _ask(operation: Operation, packets: Sequence[Packet], system: CallSystem) -> "Future[Any]":
    call_id = operation.call_id
    match operation.deed:
        case Deed.SEND_TOGETHER:
            return system.accept_many(call_id, packets)
        case Deed.COMPLETE:
            return system.complete(call_id, _COMPLETE)
        case Deed.CANCEL:
            return system.cancel(call_id)
        case Deed.RETRY:
            return system.retry(call_id)
        case _:
            is_told = operation.stream == "s2"  # where the connection is; older servers do not
            return system.hear(call_id, _tell(operation, system.server if is_told else ""))


def _tell(operation: Operation, server: str) -> FromVendor:
    match operation.deed:
        case Deed.BEGIN:
            return BeginStream(operation.stream, {"vendor": "simulated"}, server)
        case Deed.END:
            return EndStream(operation.stream, ends_call=True)
        case Deed.DROP:
            return DropStream(operation.stream, server)
        case _:
            ends = EndReason.PROVIDER if operation.stream == "s2" else None
            return TellStatus(operation.stream, {"vendor": "simulated"}, ends)


def patient(deed: Deed, call_id: str) -> Operation:
    """Return an operation of a sender who waits."""
    return Operation(sender=0, deed=deed, call_id=call_id, server=0, pause=0.0, patience=1_000.0, tries=1)
