"""Settings: CALLACTORS_* environment variables and DATABASE_URL; flags of the command line win over them."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from callactors.errors import FieldError, WrongSettings

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


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

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    insecure: bool = False
    uvloop: bool = False
    node: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/]+$")] | None = None

    grace: Seconds = 1.0
    max_attempts: Count = 4
    attempt_timeout: Annotated[float, Field(gt=0)] = 30.0
    retry_initial: Seconds = 1.0
    ack_timeout: Annotated[float, Field(gt=0)] = 5.0
    drain_timeout: Seconds = 10.0
    max_resident: Count = 100_000
    idle_timeout: Annotated[float, Field(gt=0)] = 60.0
    mailbox_limit: Count = 256

    flaky_latency_min: Seconds = 1.0
    flaky_latency_max: Seconds = 3.0
    flaky_failure_rate: Annotated[float, Field(ge=0, le=1)] = 0.25
    flaky_seed: int | None = None

    @property
    def node_name(self) -> str:
        """The node's name: by default its own as long as each server here listens on a port of its own."""
        return self.node or f"{socket.gethostname()}:{self.port}"


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
