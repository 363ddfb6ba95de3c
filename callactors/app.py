"""The server's application: `create_app` for `adev runserver callactors`, `make_app` for the command line."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from math import inf
from pathlib import Path

from aiohttp import web

from callactors.actors.registry import RegistryLimits
from callactors.deliveries import DeliveryOptions
from callactors.errors import ClusterNeedsDatabase, NatsNotFound, NatsPlaintext
from callactors.options import SystemOptions
from callactors.processors.choice import open_processor
from callactors.processors.gate import GateLimits
from callactors.retry import RetryPolicy
from callactors.routing import Router
from callactors.settings import Settings
from callactors.store.embedded import EmbeddedPostgres
from callactors.system import CallSystem
from callactors.web.guard import GuardRules
from callactors.web.limits import Limits
from callactors.web.problems import no_route
from callactors.web.setup import routes, setup
from callactors.web.vendor_access import VendorRules, make_verifiers


def create_app() -> web.Application:
    """Return the application as the environment sets it up."""
    return make_app(Settings())


def make_app(settings: Settings) -> web.Application:
    """Return the application; without a database URL it starts and stops a PostgreSQL of its own."""
    app = web.Application(client_max_size=settings.max_body)
    setup(
        app,
        _system(settings),
        rules=_rules(settings),
        limits=_limits(settings),
        vendors=_vendors(settings),
    )
    app.add_routes([*routes(), web.route("*", "/{path:.*}", no_route)])
    return app


@asynccontextmanager
async def _system(settings: Settings) -> AsyncIterator[CallSystem]:
    router = _router(settings)  # what is wrong with it is told before anything is started
    async with AsyncExitStack() as stack:
        processor = await stack.enter_async_context(open_processor(settings))
        dsn = settings.database_url
        if dsn is None:
            data_dir = None if settings.ephemeral else data_dir_of(settings)
            dsn = (await stack.enter_async_context(EmbeddedPostgres(data_dir=data_dir))).dsn
        system = CallSystem(dsn, processor, _options(settings), router=router)
        yield await stack.enter_async_context(system)


def _router(settings: Settings) -> Router | None:
    if not settings.nats:
        return None
    if settings.database_url is None:
        raise ClusterNeedsDatabase
    if settings.open_nats and not settings.nats_plaintext:
        raise NatsPlaintext(settings.open_nats)
    try:
        from callactors.cluster import NatsOptions, NatsRouter  # noqa: PLC0415  an extra, for who asks for it
    except ImportError:
        raise NatsNotFound from None
    options = NatsOptions(servers=settings.nats, credentials=settings.nats_credentials, ca=settings.nats_ca)
    return NatsRouter(options)


def data_dir_of(settings: Settings) -> Path:
    """Return where the own PostgreSQL keeps its data."""
    return (
        settings.data_dir
        or Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "callactors"
    )


def _rules(settings: Settings) -> GuardRules:
    own = frozenset() if settings.public_url is None else {settings.public_url}
    return GuardRules(
        hosts=settings.hosts,
        origins=settings.origins | own,
        proxies=settings.trusted_proxies,
        is_insecure=settings.insecure,
    )


def _vendors(settings: Settings) -> VendorRules:
    secrets: dict[str, list[str]] = {}
    for vendor, secret in settings.vendor_secrets:
        secrets.setdefault(vendor, []).append(secret.get_secret_value())
    return VendorRules(
        verifiers=make_verifiers(secrets),
        public_url=settings.public_url,
        media_vendor=settings.media_vendor,
        store_media=settings.store_media,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        body_timeout=settings.body_timeout,
        silence_timeout=settings.silence_timeout,
        refusals=settings.max_refusals,
        supervisors=settings.max_supervisors,
        key_busy=settings.key_busy,
        key_new_calls=settings.key_new_calls,
        is_compression_allowed=settings.compressed_bodies,
    )


def _options(settings: Settings) -> SystemOptions:
    return SystemOptions(
        node=settings.node_name,
        policy=RetryPolicy(
            max_attempts=settings.max_attempts,
            initial=settings.retry_initial,
            jitter=settings.retry_jitter,
            attempt_timeout=settings.attempt_timeout,
            step_timeout=settings.step_timeout or inf,
        ),
        gate=GateLimits(
            attempts=settings.ai_concurrency,
            failures=settings.ai_failures,
            pause=settings.ai_pause,
        ),
        grace=settings.grace,
        drop_timeout=settings.drop_timeout,
        call_idle_timeout=settings.call_idle_timeout,
        max_call_duration=settings.max_call_duration,
        ack_timeout=settings.ack_timeout,
        drain_timeout=settings.drain_timeout,
        max_call_packets=settings.max_call_packets,
        max_call_size=settings.max_call_size,
        database_patience=settings.database_patience,
        is_unsafe_durability_allowed=settings.unsafe_durability,
        retention=settings.retention,
        registry=RegistryLimits(
            mailbox=settings.mailbox_limit,
            resident=settings.max_resident,
            idle_timeout=settings.idle_timeout,
        ),
        deliveries=DeliveryOptions(is_private_allowed=settings.webhook_allow_private),
    )
