"""What is wrong with images and annotations: faults, where they are, and how a long list of them is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamseg.errors import DataError

_LINES = 20
"""About so many lines are told; more do not fit on a screen."""
_NAMED = 3
"""So many problems of each kind are named, fewer if there are many kinds."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    kind: str
    """What it has in common with others, in the plural: ``boxes without area``."""
    text: str
    """Names the values: ``its box [5, 5, 0, 9] has no area``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault and where it is."""

    file: Path
    """The COCO file."""
    fault: Fault
    where: str = ""
    """The row, such as ``annotation 5: ``."""
    annotation: int | None = None
    """Place in the list of annotations, if leaving that one out would do."""

    def __str__(self) -> str:
        return f"{self.file}: {self.where}{self.fault.text}"


def data_error(problems: Sequence[Problem], *, hint: str) -> DataError:
    """All problems as one error: the first few of each kind are named, the others counted."""
    kinds: dict[tuple[Path, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.file, problem.fault.kind), []).append(problem)
    named = max(1, min(_NAMED, _LINES // len(kinds) - 1))
    lines: list[str] = []
    for (file, kind), alike in kinds.items():
        # A line that counts one problem is no shorter than one that names it.
        shown = alike if len(alike) == named + 1 else alike[:named]
        lines += map(str, shown)
        if len(alike) > len(shown):
            lines.append(f"{file}: and {len(alike) - len(shown)} more {kind}")
    skippable = any(problem.annotation is not None for problem in problems)
    count = f"the data has {len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return DataError(f"{count} ({hint})" if skippable else count, lines)
