"""How records of the log are written: for people, or as JSON for programs; and which call they are about."""

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from callactors.access import mask_keys

LogFormat: TypeAlias = Literal["auto", "human", "json"]

_HUMAN: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class CallLog(logging.LoggerAdapter[logging.Logger]):
    """Logs about one call: what is said begins with its id, and the record has it as `call_id`."""

    def __init__(self, logger: logging.Logger, call_id: str) -> None:
        super().__init__(logger, {"call_id": call_id})
        self._prefix = f"call {call_id}: ".replace("%", "%%")

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        return super().process(f"{self._prefix}{msg}", kwargs)


def about(logger: logging.Logger, call_id: str | None) -> logging.Logger | CallLog:
    """Return the log for what concerns the call, if one is known."""
    return CallLog(logger, call_id) if call_id else logger


class HumanFormatter(logging.Formatter):
    """Writes a record for people, with no key's secret, whoever logs it."""

    def __init__(self) -> None:
        super().__init__(_HUMAN)

    def format(self, record: logging.LogRecord) -> str:
        return mask_keys(super().format(record))


class JsonFormatter(logging.Formatter):
    """Writes a record as an object in one line, with no key's secret, whoever logs it."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        told = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (call_id := getattr(record, "call_id", None)) is not None:
            told["call_id"] = call_id
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return mask_keys(json.dumps(told))


def set_up_logs(log_format: LogFormat = "auto", level: str = "info") -> None:
    """Write what is logged to stderr; `auto` is `human` at a terminal and else `json`."""
    is_human = log_format == "human" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(HumanFormatter() if is_human else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
