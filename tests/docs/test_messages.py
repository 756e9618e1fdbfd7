"""Messages that the page on troubleshooting quotes are those of the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.program import ROOT

_OTHERS = {"Connection refused"}
"""Words of the system that stand in messages."""


def quoted(page: Path) -> list[str]:
    """The messages of a page: what stands as code in the first column of its tables."""
    return re.findall(r"^\| `([^|]+)` \|", page.read_text(), flags=re.MULTILINE)


def texts() -> Iterator[str]:
    """All text of the program's code."""
    for path in (ROOT / "streamseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%(?:\.\d)?[sdf]", "…", node.value)


def test_messages_are_quoted_as_the_program_says_them() -> None:
    known = "\n".join(texts())
    found = quoted(ROOT / "docs" / "troubleshooting.md")
    parts = {part.strip(" ,:()") for message in found for part in re.split("…|: |, trying on", message)}
    missing = {part for part in parts if len(part) > 3 and part not in known} - _OTHERS
    assert len(found) > 30
    assert not missing
