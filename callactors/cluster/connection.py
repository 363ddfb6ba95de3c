"""How a connection to NATS is made: what is shown to it, and in TLS or not at all, if it has to be."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from nats.aio.client import Client
from nats.errors import Error, SecureConnWantedError
from nkeys import NkeysError  # type: ignore[import-untyped]

from callactors.errors import NatsFilesBroken

TROUBLE: Final = (Error, NkeysError, OSError, TimeoutError)
"""What NATS, the way there, and the files that are shown to it may do at any time."""

_PING_INTERVAL: Final = 2
_CLOSE_TIMEOUT: Final = 1.0
_IN_CREDENTIALS: Final = (b"-----BEGIN NATS USER JWT-----", b"-----BEGIN USER NKEY SEED-----")


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions:
    """Where NATS is, and what it wants to see: a credentials file, a CA to trust instead of the system's.

    The first user and password, or token, in a URL is for all servers; a URL with `tls://`, or a CA, asks all
    of them for TLS.
    """

    servers: Sequence[str]
    credentials: Path | None = None
    ca: Path | None = None

    @property
    def needs_tls(self) -> bool:
        """Whether a server without TLS is none of ours."""
        return self.ca is not None or any(server.startswith("tls://") for server in self.servers)

    def each(self) -> list["NatsOptions"]:
        """Return the same for each server by itself."""
        scheme, users = "tls" if self.needs_tls else "nats", [_split(server)[0] for server in self.servers]
        user = next(filter(None, users), "")
        urls = [f"{scheme}://{user}{_split(server)[1]}" for server in self.servers]
        return [replace(self, servers=[url]) for url in urls]

    def check_files(self) -> None:
        """Look whether the files can be used; they are read again for each connection.

        Raises:
            NatsFilesBroken: one cannot.
        """
        try:
            self.make_context()
            told = b"" if self.credentials is None else self.credentials.read_bytes()
        except OSError as error:  # an ssl.SSLError is one
            raise NatsFilesBroken(str(error)) from error
        if self.credentials is not None and not all(part in told for part in _IN_CREDENTIALS):
            raise NatsFilesBroken(f"{self.credentials} has no JWT and seed of a user")

    def make_context(self) -> ssl.SSLContext | None:
        """Return what servers are checked with, None if that is by the system's CAs."""
        return None if self.ca is None else ssl.create_default_context(cafile=self.ca)


def make_client(options: NatsOptions) -> Client:
    """Return a client that can be connected."""
    return _TlsClient() if options.needs_tls else _Client()


class _Client(Client):
    """Closes in order when the connection is lost; the library stops half-way if more was to be sent."""

    async def _process_op_err(self, e: Exception) -> None:
        self._pending, self._pending_data_size = [], 0
        await super()._process_op_err(e)


class _TlsClient(_Client):
    """Shows nothing to a server that says it has no TLS; the library would, whatever the URL says."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not info.get("tls_required"):
            raise SecureConnWantedError
        await super()._process_info(info, initial_connection)


async def connect(
    client: Client,
    options: NatsOptions,
    *,
    name: str,
    on_error: Callable[[Exception], Awaitable[None]],
    on_closed: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Connect, once; *on_closed* is called when the connection is lost.

    Raises:
        one of TROUBLE, ValueError: the server that was chosen, at random, is away or does not let us in.
    """
    has_been_connected = False

    async def tell(error: Exception) -> None:
        if not has_been_connected:
            raise error  # else the library hangs if it was the TLS handshake that failed
        await on_error(error)

    user, password = _find_user(options.servers)
    await client.connect(
        [f"nats://{_split(server)[1]}" for server in options.servers],
        name=name,
        # Not in the URLs: those that servers tell of each other have none, and URLs get into logs.
        user=None if password is None else user,
        password=password,
        token=user if password is None else None,
        user_credentials=None if options.credentials is None else str(options.credentials),
        tls=options.make_context(),  # None: the library makes one if it comes to that
        allow_reconnect=False,  # the library would subscribe again to what was let go meanwhile
        connect_timeout=_PING_INTERVAL,
        ping_interval=_PING_INTERVAL,
        max_outstanding_pings=2,
        error_cb=tell,
        closed_cb=on_closed,
    )
    has_been_connected = True


async def close(client: Client) -> None:
    """Close *client*; the library would wait for ever for the end of a TLS handshake that has failed."""
    with suppress(*TROUBLE, AssertionError):  # the last, if it was never connected
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await client.close()


def _find_user(servers: Sequence[str]) -> tuple[str | None, str | None]:
    for url in map(urlsplit, servers):
        if url.username is not None:
            return unquote(url.username), None if url.password is None else unquote(url.password)
    return None, None


def _split(server: str) -> tuple[str, str]:
    """Return what a URL has before its host, with the @, and from there on."""
    before, at, host = urlsplit(server).netloc.rpartition("@")
    return before + at, host
