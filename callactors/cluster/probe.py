"""A look at NATS from outside: whether a server lets us in, and brings back what it is sent."""

import asyncio
from uuid import uuid4

from nats.aio.msg import Msg

from callactors.cluster.connection import TROUBLE, NatsOptions, close, connect, make_client
from callactors.cluster.link import Subjects
from callactors.cluster.wire import VERSION


async def probe(options: NatsOptions, *, timeout: float) -> tuple[int, int]:
    """Send something to ourselves, and return the version of the one server of *options*.

    Raises:
        ConnectionError: it does not come back within *timeout* seconds; the text says why.
    """
    troubles: list[Exception] = []
    arrived = asyncio.Event()

    async def on_error(trouble: Exception) -> None:
        troubles.append(trouble)

    async def on_message(_: Msg) -> None:
        arrived.set()

    client = make_client(options)
    subject = Subjects(f"callactors.{VERSION}.doctor", uuid4().hex).of_answer("self")
    try:
        async with asyncio.timeout(timeout):
            await connect(client, options, name="callactors doctor", on_error=on_error)
            await client.subscribe(subject, cb=on_message)
            await client.publish(subject, b"")
            await arrived.wait()
            version = client.connected_server_version
            return version.major, version.minor
    except (*TROUBLE, ValueError) as failure:
        told = next((text for one in (*troubles, failure) if (text := str(one))), "it does not answer")
        raise ConnectionError(told) from failure
    finally:
        await close(client)
