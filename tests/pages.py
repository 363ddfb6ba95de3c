"""The pages of the documentation, and the blocks of code in them."""

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
SERVER: Final = "http://127.0.0.1:8000"
"""Where commands of the pages look for the server."""

_BLOCK: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of code; *kind* is the word behind its fence, empty for what nobody can run or read."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    """Return the text of *page*."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(*kinds: str, page: str | None = None) -> list[Block]:
    """Return the blocks of *kinds* on *page*, or on all pages."""
    return [block for block in _BLOCKS if block.kind in kinds and page in (None, block.page)]


_BLOCKS: Final = [
    Block(page, match.string.count("\n", 0, match.start()) + 1, match[2], match[3])
    for page in PAGES
    for match in _BLOCK.finditer(read(page))
]
