"""Sessions for requests that go out: to whom they may connect, their errors' names, and when to ask again."""

import os
import re
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from aiohttp import AddrInfoType, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from callactors.processors.addresses import is_private

_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


class PrivateAddress(OSError):
    """The address is not for all the world, and none of those is allowed."""

    def __init__(self) -> None:
        super().__init__("a private address")


def open_session(
    headers: Mapping[str, str], *, connections: int, connect_timeout: float, is_private_allowed: bool
) -> ClientSession:
    """Return a session without cookies and proxies, which unpacks nothing; 0 *connections*: any number."""
    return ClientSession(
        auto_decompress=False,  # what is small on the wire may be huge
        connector=TCPConnector(
            limit=connections,
            socket_factory=None if is_private_allowed else _open_public,
        ),
        cookie_jar=DummyCookieJar(),
        headers={"Accept-Encoding": "identity", **headers},
        timeout=ClientTimeout(total=None, sock_connect=connect_timeout),
        trust_env=False,
    )


def name_error(error: OSError) -> str:
    """Return what went wrong, without the address that asyncio's texts tell."""
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        return "TLS failed, or its certificate is not trusted"
    if isinstance(error, socket.gaierror):
        return "its name leads nowhere"
    return os.strerror(error.errno) if error.errno else type(error).__name__


def read_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that Retry-After (RFC 9110, 10.2.3) asks to wait; None if that is neither form."""
    if value is None or _SECONDS.fullmatch(value):
        return None if value is None else float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _open_public(info: AddrInfoType) -> socket.socket:
    """Return a socket for the address in *info*: the one that gets connected, whatever its name is."""
    family, kind, protocol, _, address = info
    if is_private(str(address[0])):
        raise PrivateAddress
    return socket.socket(family, kind, protocol)
