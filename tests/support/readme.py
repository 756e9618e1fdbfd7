"""The examples of the README, as they stand there."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def example(language: str, containing: str) -> str:
    """The only block in ``language`` that contains a text."""
    blocks = [b for kind, b in _BLOCK.findall(README.read_text()) if kind == language and containing in b]
    assert len(blocks) == 1, f"{len(blocks)} blocks of {language} contain {containing!r}"
    found: str = blocks[0]
    return found
