"""Made-up calls without end, so that a server that nobody calls yet has something to show."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from callactors.errors import FieldError, WrongSettings
from callactors.settings import Settings
from callactors.simulate.calls import Plan, Simulation
from callactors.simulate.connection import Pace
from callactors.simulate.trouble import Trouble

log = logging.getLogger(__name__)

_FAILURE_RATE: Final = 0.6  # with four attempts, every eighth call fails for good
_PAUSE: Final = 2.0


class _Line(NamedTuple):
    """Calls of one vendor, which begin spread over the time that one lasts."""

    vendor: str
    calls: int
    seconds: float
    trouble: Trouble = Trouble()


_LINES: Final = (
    _Line("twilio", 3, 20.0, Trouble(loss=0.004, reorder=0.002, duplicate=0.002)),
    _Line("telnyx", 2, 45.0, Trouble(drop=0.5)),
    _Line("plivo", 2, 8.0),
)


def set_up_demo(settings: Settings) -> Settings:
    """Return *settings* for a demo: what is made up is kept only where somebody has said so.

    Raises:
        WrongSettings: it would go into a database that is not the server's own, or cannot be sent.
    """
    if settings.demo != "any" and settings.database_url is not None:
        detail = "made-up calls would go into the database of DATABASE_URL: unset that, or say --demo=any"
        raise WrongSettings([FieldError("CALLACTORS_DEMO", "database", detail)])
    if settings.tls_cert is not None:
        detail = "made-up calls come without TLS: leave the certificate out"
        raise WrongSettings([FieldError("CALLACTORS_DEMO", "tls", detail)])
    update: dict[str, object] = {"ephemeral": settings.ephemeral or settings.data_dir is None}
    if "flaky_failure_rate" not in settings.model_fields_set:
        update["flaky_failure_rate"] = _FAILURE_RATE
    return settings.model_copy(update=update)


def tell_demo(settings: Settings) -> str:
    """Return what a demo with *settings* does."""
    place = "the database of DATABASE_URL, where they stay"
    if settings.database_url is None:
        place = "a database that is deleted at the end" if settings.ephemeral else str(settings.data_dir)
    return (
        "This is a demo: made-up calls come in all the time, some with gaps, some cut off, and the AI step"
        f" often fails.\nThey go into {place}."
    )


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[None]:
    """Let calls come to the server at *url* meanwhile."""
    lines = [asyncio.create_task(_call(url, line)) for line in _LINES]
    try:
        yield
    finally:
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)


async def _call(url: str, line: _Line) -> None:
    while True:
        plan = Plan(
            url=url,
            vendor=line.vendor,
            calls=line.calls,
            seconds=line.seconds,
            run=secrets.token_hex(8),
            seed=secrets.randbits(32),
            trouble=line.trouble,
            ramp=line.seconds,
            patience=0.0,
        )
        report = await Simulation(plan, Pace()).run()
        for reason in report.refused:
            log.warning("the server refuses the demo's calls of %s: %s", line.vendor, reason)
        await asyncio.sleep(_PAUSE)
