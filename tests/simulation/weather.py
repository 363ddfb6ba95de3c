"""What a statement may suffer on its way."""

from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of a statement that locks rows, beside that it is answered."""

    LOST_BEFORE = "lost before it ran"
    LOST_AFTER = "committed, but its reply was lost"
    LATE = "lost, but committed later"
    STRAY = "lost on its way, but it arrives later"
    SWALLOWED = "committed, and never answered"
    DEADLOCK = "rolled back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How long things take, at most, in seconds."""

    way: float = 0.002
    commit: float = 0.005
