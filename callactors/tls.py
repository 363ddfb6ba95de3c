"""TLS: the server's certificate, which may be renewed while it runs."""

import asyncio
import logging
import signal
import ssl
from pathlib import Path

from callactors.errors import TlsFailed
from callactors.settings import Settings

log = logging.getLogger(__name__)


def make_context(settings: Settings) -> ssl.SSLContext | None:
    """Return what TLS is served with, read anew on SIGHUP; None without a certificate.

    Raises:
        TlsFailed: the certificate or its key cannot be used.
    """
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise TlsFailed("there is a key, but no certificate")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = (settings.tls_cert, settings.tls_key)
    _load(context, *files)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, context, *files)
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(cert, key, password=_refuse_to_ask)
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        raise TlsFailed(str(error)) from error


def _reload(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    try:
        _load(context, cert, key)
    except TlsFailed as error:
        log.error("the certificate stays as it was: %s", error)
    else:
        log.info("the certificate was read again")


def _refuse_to_ask() -> str:
    raise ValueError("the key is encrypted")
