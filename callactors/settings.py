"""Settings: CALLACTORS_* environment variables and DATABASE_URL; flags of the command line win over them."""

import ipaddress
import re
import socket
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, IPvAnyNetwork, SecretStr, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from callactors.errors import FieldError, WrongSettings

_DURATION: Final = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_PROCESSOR: Final = r"^(flaky|http|speech|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$"
_OTHER_FILES: Final = 128
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Timeout = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _split_pairs(value: object) -> object:
    parts = _split(value)
    return [part.split("=", 1) for part in parts] if isinstance(parts, list) else parts


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def read_duration(text: str) -> timedelta:
    """Return the duration in *text*, as 90d, 12h, 30m or 45s.

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("write a duration as 90d, 12h, 30m or 45s")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _read_duration(value: object) -> object:
    try:
        return read_duration(value) if isinstance(value, str) else value
    except ValueError as error:
        raise PydanticCustomError("duration", "{text}", {"text": str(error)}) from None


Duration = Annotated[timedelta, BeforeValidator(_read_duration), Field(gt=timedelta())]
Names = Annotated[frozenset[str], NoDecode, BeforeValidator(_split)]
_HOST: Final = r"(\[[0-9A-Fa-f:.]+\]|[^/?#@:\s\[\]]+)"
Server = Annotated[str, Field(pattern=rf"^(nats|tls)://([^/?#\s]*@)?{_HOST}(:\d{{1,5}})?$")]
Servers = Annotated[tuple[Server, ...], NoDecode, BeforeValidator(_split)]
Vendor = Literal["twilio", "texml", "signalwire", "plivo", "telnyx", "jambonz", "vonage"]
VendorSecrets = Annotated[tuple[tuple[Vendor, SecretStr], ...], NoDecode, BeforeValidator(_split_pairs)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """All settings of a server; times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="CALLACTORS_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    database_url: str | None = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL", "CALLACTORS_DATABASE_URL")
    )
    database_patience: Seconds = 60.0
    unsafe_durability: bool = False
    data_dir: Path | None = None
    ephemeral: bool = False
    demo: Literal["own", "any"] | None = None

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    insecure: bool = False
    hosts: Names = frozenset()
    origins: Names = frozenset()
    trusted_proxies: Networks = ()
    public_url: Annotated[str, Field(pattern=r"^https?://[^/?#]+$")] | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    uvloop: bool = False
    log_format: Literal["auto", "human", "json"] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"

    vendor_secrets: VendorSecrets = ()
    media_vendor: Literal["twilio", "signalwire", "fonoster", "telnyx", "plivo", "exotel"] | None = None
    store_media: bool = False

    nats: Servers = ()
    nats_credentials: Path | None = None
    nats_ca: Path | None = None
    nats_plaintext: bool = False
    node: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/]+$")] | None = None

    grace: Seconds = 1.0
    drop_timeout: Seconds = 30.0
    call_idle_timeout: Timeout = 3_600.0
    max_call_duration: Timeout = 86_400.0
    max_attempts: Count = 4
    attempt_timeout: Annotated[float, Field(gt=0)] = 30.0
    step_timeout: Timeout | None = None
    retry_initial: Seconds = 1.0
    retry_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    ai_concurrency: Count = 200
    ai_failures: Annotated[int, Field(ge=0)] = 20
    ai_pause: Timeout = 30.0
    ack_timeout: Annotated[float, Field(gt=0)] = 5.0
    drain_timeout: Seconds = 10.0
    retention: Duration | None = None
    max_resident: Count = 100_000
    idle_timeout: Annotated[float, Field(gt=0)] = 60.0
    mailbox_limit: Count = 256
    max_call_packets: Count = 5_000_000
    max_call_size: Count = 4 * 1024**3

    max_connections: Count = 16_000
    max_new_connections: Count = 800
    max_refusals: Count = 500
    max_body: Annotated[int, Field(ge=1_024)] = 1024 * 1024
    max_headers: Annotated[int, Field(ge=8)] = 64
    max_header_size: Annotated[int, Field(ge=1_024)] = 8_190
    keepalive_timeout: Timeout = 75.0
    body_timeout: Timeout = 10.0
    silence_timeout: Timeout = 300.0
    max_supervisors: Count = 5_000
    key_busy: Count = 10_000
    key_new_calls: Annotated[float, Field(gt=0)] = 1_000.0
    compressed_bodies: bool = False

    processor: Annotated[str, Field(pattern=_PROCESSOR)] = "flaky"
    http_url: Annotated[str, Field(pattern=r"^https?://[^/?#@\\\s]+([/?][^#\s]*)?$")] | None = None
    http_form: Literal["json", "transcription"] = "json"
    http_token: Annotated[SecretStr, Field(min_length=1)] | None = None
    http_secret: SecretStr | None = None
    http_model: Annotated[str, Field(min_length=1)] = "whisper-1"
    http_language: str | None = None
    http_max_request: Count = 64 * 1024**2
    http_max_response: Count = 1024**2
    http_connections: Count = 100
    http_allow_private: bool = False

    webhook_allow_private: bool = False

    flaky_latency_min: Seconds = 1.0
    flaky_latency_max: Seconds = 3.0
    flaky_failure_rate: Rate = 0.25
    flaky_hang_rate: Rate = 0.0
    flaky_late_rate: Rate = 0.0
    flaky_seed: int | None = None

    @property
    def node_name(self) -> str:
        """The node's name: by default its own as long as each server here listens on a port of its own."""
        return self.node or f"{socket.gethostname()}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return _is_loopback(self.host)

    @property
    def open_nats(self) -> list[str]:
        """Hosts of NATS servers on other machines that are not asked for TLS."""
        if self.nats_ca is not None or any(server.startswith("tls://") for server in self.nats):
            return []
        hosts = [urlsplit(server).hostname or "" for server in self.nats]
        return [host for host in hosts if not _is_loopback(host)]

    @property
    def open_files(self) -> int:
        """How many files the server may have open: one for each connection, and its own."""
        return self.max_connections + _OTHER_FILES


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """Return the settings of the environment, but for those that *flags* names with a value.

    Raises:
        WrongSettings: some value is not what its setting takes.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise WrongSettings([FieldError(_variable(e["loc"]), e["type"], e["msg"]) for e in found]) from None


def _variable(location: tuple[Any, ...]) -> str:
    name = str(location[0]).upper()
    return name if name == "DATABASE_URL" else "CALLACTORS_" + name
