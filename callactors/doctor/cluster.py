"""Checks of NATS: whether each server is there, lets us in, and brings back what it is sent."""

from typing import Final

from callactors.cluster import NatsOptions
from callactors.cluster.probe import probe
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
    try:
        return check_version(host, await probe(options, timeout=_PATIENCE))
    except ConnectionError as failure:
        return error("nats", f"{host}: {failure}", "docs/nats.md tells what to look at")
