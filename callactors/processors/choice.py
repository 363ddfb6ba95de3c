"""The processor that the settings name."""

import importlib
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Never, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from callactors.errors import FieldError, WrongSettings
from callactors.processors.addresses import is_private
from callactors.processors.contract import Processor
from callactors.processors.flaky import FlakyProcessor
from callactors.settings import Settings
from callactors.signing import read_secret


@asynccontextmanager
async def open_processor(settings: Settings) -> AsyncIterator[Processor]:
    """Make the processor; in the end its `async def close()` is called, if it has one.

    Raises:
        WrongSettings: there is no such processor, or not with these settings.
    """
    processor = make_processor(settings)
    try:
        yield processor
    finally:
        if (close := getattr(processor, "close", None)) is not None:
            await close()


def make_processor(settings: Settings) -> Processor:
    """Return the processor, as open_processor does, but leave it to the caller to close it."""
    match settings.processor:
        case "flaky":
            return _make_flaky(settings)
        case "http":
            return _make_http(settings)
        case "speech":
            return _find("callactors.processors.speech:SpeechProcessor")
        case name:
            return _find(name)


def _make_flaky(settings: Settings) -> Processor:
    return FlakyProcessor(
        latency_min=settings.flaky_latency_min,
        latency_max=settings.flaky_latency_max,
        failure_rate=settings.flaky_failure_rate,
        hang_rate=settings.flaky_hang_rate,
        late_rate=settings.flaky_late_rate,
        seed=settings.flaky_seed,
    )


def _make_http(settings: Settings) -> Processor:
    from callactors.processors.http import HttpOptions, HttpProcessor  # noqa: PLC0415  as the others: on demand

    options = HttpOptions(
        url=_check_url(settings.http_url, is_private_allowed=settings.http_allow_private),
        form=settings.http_form,
        token=_read_token(settings.http_token),
        secret=_read_secret(settings.http_secret, settings.http_form),
        model=settings.http_model,
        language=settings.http_language,
        max_request=settings.http_max_request,
        max_response=settings.http_max_response,
        connections=settings.http_connections,
        is_private_allowed=settings.http_allow_private,
    )
    return HttpProcessor(options)


def _check_url(url: str | None, *, is_private_allowed: bool) -> str:
    """Tell at start what would fail with every call; names are looked up when they are connected to."""
    if url is None:
        _refuse("HTTP_URL", "missing", "say where the provider is, as https://ai.example/calls")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        _refuse("HTTP_URL", "invalid_url", "is no URL")
    if is_private(host) and not is_private_allowed:
        _refuse("HTTP_URL", "private", "is a private address: set CALLACTORS_HTTP_ALLOW_PRIVATE if it may be")
    return url


def _read_token(token: SecretStr | None) -> str | None:
    if token is None:
        return None
    text = token.get_secret_value()
    if not (text.isascii() and text.isprintable() and " " not in text):
        _refuse("HTTP_TOKEN", "invalid_token", "may have no spaces, line ends or other than ASCII characters")
    return text


def _read_secret(secret: SecretStr | None, form: str) -> bytes | None:
    if secret is None:
        return None
    if form != "json":
        _refuse("HTTP_SECRET", "unused", "only requests with CALLACTORS_HTTP_FORM=json are signed")
    try:
        return read_secret(secret.get_secret_value())
    except ValueError as error:
        _refuse("HTTP_SECRET", "invalid_secret", str(error))


def _find(name: str) -> Processor:
    """Return the async callable that `module:attribute` names; a class is called without arguments."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        _refuse("PROCESSOR", "not_found", f"cannot import {name} ({error}); PYTHONPATH says where to look")
    processor: Any = found() if isinstance(found, type) else found
    if not callable(processor) or not any(
        map(inspect.iscoroutinefunction, (processor, type(processor).__call__))
    ):
        _refuse("PROCESSOR", "not_async", f"{name} is not an async function, nor a class with async __call__")
    return cast("Processor", processor)


def _refuse(name: str, code: str, detail: str) -> Never:
    raise WrongSettings([FieldError(f"CALLACTORS_{name}", code, detail)])
