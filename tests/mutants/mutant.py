"""A mutant: one small change of the package, and the tests that must go red on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """*new* stands in place of *old*, which the file at *path* has exactly once.

    *breaks* is the sentence that is true of the mutant; *tests* are node ids, each of which must go red.
    """

    name: str
    breaks: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Change the file below *root*.

        Raises:
            ValueError: *old* is not there exactly once.
        """
        file = root / self.path
        text = file.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: what it replaces is {count} times in {self.path}, not once")
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")

    @property
    def module(self) -> str | None:
        """What is to be imported to see that the change is Python; None if it is SQL."""
        path = Path(self.path)
        return ".".join(path.with_suffix("").parts) if path.suffix == ".py" else None


def make_table(mutants: Sequence[Mutant]) -> str:
    """Return who is noticed by what, as docs/reliability.md has it."""
    lines = ["| mutant | what is broken | red |", "|---|---|---|"]
    for mutant in mutants:
        tests = ", ".join(f"`{test.removeprefix('tests/')}`" for test in mutant.tests)
        lines.append(f"| {mutant.name} | {mutant.breaks} | {tests} |")
    return "\n".join(lines)
