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
    """

    seconds: float
    rounds: int
    profile: Path | None = None
    is_long: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result: *ratio* is ours over the yardstick's, *problems* say why it must not be trusted."""

    name: str
    ratio: float
    problems: Sequence[str]
    lines: Sequence[str]
    parts: Mapping[str, Any]

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        told = {
            "name": self.name,
            "ratio": round(self.ratio, 4),
            "valid": not self.problems,
            "problems": list(self.problems),
            **self.parts,
        }
        return json.dumps(told)


Benchmark = Callable[[Options], Coroutine[Any, Any, Report]]
