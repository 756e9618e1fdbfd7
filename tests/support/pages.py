"""The README and the pages of the site, and the blocks of code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(
    r"^(?P<indent>[ ]*)(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block of code."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that a user reads."""
    own = [ROOT / "README.md", ROOT / "examples" / "README.md", ROOT / "streamseg" / "weights" / "README.md"]
    return own + sorted((ROOT / "docs").rglob("*.md"))


def blocks_in(text: str, page: str) -> Iterator[Block]:
    """The blocks of a page, as they stand there but for a common indent."""
    for found in _BLOCK.finditer(text):
        indent, code = len(found["indent"]), found["code"]
        lines = (line[indent:] for line in code.splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, found.start()) + 1, found["language"], "".join(lines))


def blocks() -> Iterator[Block]:
    """The blocks of all pages."""
    for path in pages():
        yield from blocks_in(path.read_text(), str(path.relative_to(ROOT)))


def example(language: str, containing: str) -> str:
    """The only block in ``language`` that contains a text."""
    found = [block for block in blocks() if block.language == language and containing in block.code]
    assert len(found) == 1, (
        f"{len(found)} blocks of {language} contain {containing!r}: {list(map(str, found))}"
    )
    return found[0].code


def whole(page: str, language: str) -> str:
    """All blocks in ``language`` of a page, one after the other."""
    return "\n".join(
        block.code for block in blocks_in((ROOT / page).read_text(), page) if block.language == language
    )
