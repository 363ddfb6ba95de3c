"""What a benchmark is asked, and what it answers."""

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How long to measure: *rounds* of *seconds* in each arm. *profile* takes the server's cProfile data.

    *is_long* asks for the sizes that the figures are stated for; the short form shows the same in a minute.
    *on_uvloop* asks how much faster the server is on uvloop than on asyncio's own loop. *kinds* are those of
    hostile clients, all if there are none.
    """

    seconds: float
    rounds: int
    profile: Path | None = None
    is_long: bool = False
    on_uvloop: bool = False
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result: *ratio* is ours over the yardstick's, *problems* say why it must not be trusted.

    *wanted* is the least ratio that is good; with *is_limit* the most.
    """

    name: str
    ratio: float
    wanted: float
    is_limit: bool = False
    problems: Sequence[str]
    lines: Sequence[str]
    parts: Mapping[str, Any]

    @property
    def is_good(self) -> bool:
        return self.ratio <= self.wanted if self.is_limit else self.ratio >= self.wanted

    @property
    def told(self) -> dict[str, Any]:
        """All of it but the table, as JSON has it."""
        return {
            "name": self.name,
            "ratio": round(self.ratio, 4),
            "wanted": self.wanted,
            "is_limit": self.is_limit,
            "is_good": self.is_good,
            "valid": not self.problems,
            "problems": list(self.problems),
            **self.parts,
        }

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.told)


Benchmark = Callable[[Options], Coroutine[Any, Any, Report]]
