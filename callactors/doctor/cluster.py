"""Checks of NATS: whether each server is there, lets us in, and brings back what it is sent."""

import asyncio
from typing import Final
from uuid import uuid4

from nats.aio.client import Client
from nats.aio.msg import Msg

from callactors.cluster.connection import TROUBLE, NatsOptions, close, connect, make_client
from callactors.cluster.link import Subjects
from callactors.cluster.wire import VERSION
from callactors.doctor.findings import Finding, error, ok, warning
from callactors.errors import NatsFilesBroken, NatsPlaintext
from callactors.settings import Settings

_PATIENCE: Final = 3.0  # seconds
_OLDEST: Final = (2, 9)


async def check_nats(settings: Settings) -> list[Finding]:
    """Look at each server by itself; nothing is sent where a server of ours would send nothing."""
    options = NatsOptions(servers=settings.nats, credentials=settings.nats_credentials, ca=settings.nats_ca)
    found = []
    if settings.open_nats:
        accept = warning if settings.nats_plaintext else error
        found.append(accept("nats", str(NatsPlaintext(settings.open_nats))))
        if not settings.nats_plaintext:
            return found
    try:
        options.check_files()
    except NatsFilesBroken as failure:
        return [*found, error("nats", str(failure))]
    return [*found, *[await _check(one) for one in options.each()]]


def check_version(host: str, version: tuple[int, int]) -> Finding:
    """Look whether it is new enough."""
    text = f"{host} has version {version[0]}.{version[1]}, and brings back what it is sent"
    if version < _OLDEST:
        return warning("nats", text, f"{_OLDEST[0]}.{_OLDEST[1]} is the oldest that was tried; upgrade it")
    return ok("nats", text)


async def _check(options: NatsOptions) -> Finding:
    host = options.servers[0].rpartition("@")[2].rpartition("/")[2]
    troubles: list[Exception] = []
    client = make_client(options)

    async def on_error(trouble: Exception) -> None:
        troubles.append(trouble)

    try:
        async with asyncio.timeout(_PATIENCE):
            await connect(client, options, name="callactors doctor", on_error=on_error)
            await _send_to_self(client)
            version = client.connected_server_version
            return check_version(host, (version.major, version.minor))
    except (*TROUBLE, ValueError) as failure:
        reason = next((text for one in (*troubles, failure) if (text := str(one))), "it does not answer")
        return error("nats", f"{host}: {reason}", "docs/nats.md tells what to look at")
    finally:
        await close(client)


async def _send_to_self(client: Client) -> None:
    subject = Subjects(f"callactors.{VERSION}.doctor", uuid4().hex).of_answer("self")
    arrived = asyncio.Event()

    async def on_message(_: Msg) -> None:
        arrived.set()

    await client.subscribe(subject, cb=on_message)
    await client.publish(subject, b"")
    await arrived.wait()
