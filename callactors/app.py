"""The server's application: `create_app` for `adev runserver callactors`, `make_app` for the command line."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from callactors.actors.registry import RegistryLimits
from callactors.processors.flaky import FlakyProcessor
from callactors.retry import RetryPolicy
from callactors.settings import Settings
from callactors.store.embedded import EmbeddedPostgres
from callactors.system import CallSystem, SystemOptions
from callactors.web.problems import no_route
from callactors.web.setup import routes, setup

_MAX_BODY: Final = 1024 * 1024


def create_app() -> web.Application:
    """Return the application as the environment sets it up."""
    return make_app(Settings())


def make_app(settings: Settings) -> web.Application:
    """Return the application; without a database URL it starts and stops a PostgreSQL of its own."""
    app = web.Application(client_max_size=_MAX_BODY)
    setup(app, _system(settings))
    app.add_routes([*routes(), web.route("*", "/{path:.*}", no_route)])
    return app


@asynccontextmanager
async def _system(settings: Settings) -> AsyncIterator[CallSystem]:
    async with AsyncExitStack() as stack:
        dsn = settings.database_url
        if dsn is None:
            data_dir = None if settings.ephemeral else settings.data_dir or _default_data_dir()
            dsn = (await stack.enter_async_context(EmbeddedPostgres(data_dir=data_dir))).dsn
        yield await stack.enter_async_context(CallSystem(dsn, _processor(settings), _options(settings)))


def _default_data_dir() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "callactors"


def _processor(settings: Settings) -> FlakyProcessor:
    return FlakyProcessor(
        latency_min=settings.flaky_latency_min,
        latency_max=settings.flaky_latency_max,
        failure_rate=settings.flaky_failure_rate,
        seed=settings.flaky_seed,
    )


def _options(settings: Settings) -> SystemOptions:
    return SystemOptions(
        node=settings.node_name,
        policy=RetryPolicy(
            max_attempts=settings.max_attempts,
            initial=settings.retry_initial,
            attempt_timeout=settings.attempt_timeout,
        ),
        grace=settings.grace,
        ack_timeout=settings.ack_timeout,
        drain_timeout=settings.drain_timeout,
        database_patience=settings.database_patience,
        is_unsafe_durability_allowed=settings.unsafe_durability,
        registry=RegistryLimits(
            mailbox=settings.mailbox_limit,
            resident=settings.max_resident,
            idle_timeout=settings.idle_timeout,
        ),
    )
