"""What a check has found."""

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """What *check* has found, and what to do if it is not well."""

    check: str
    level: Level
    text: str
    mend: str = ""

    def __str__(self) -> str:
        told = f"{self.text}: {self.mend}" if self.mend else self.text
        return f"{self.level:<9}{self.check:<13}{told}"


def ok(check: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, mend: str = "") -> Finding:
    """Return that a server works, but not as well as it should."""
    return Finding(check, Level.WARNING, text, mend)


def error(check: str, text: str, mend: str = "") -> Finding:
    """Return that a server does not start, or does not keep what it promises."""
    return Finding(check, Level.ERROR, text, mend)
