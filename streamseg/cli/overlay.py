"""The options that say what is painted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from streamseg.config import hint
from streamseg.errors import UsageError

_PARTS = ("masks", "outlines", "boxes", "labels", "ids", "trails")


def overlay_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--overlay`` and ``--blur``."""
    parts = click.option(
        "--overlay",
        metavar="PARTS",
        help="What is painted: any of masks,outlines,boxes,labels,ids,trails, or none."
        "  [default: masks,outlines,labels,ids]",
    )
    blur = click.option(
        "--blur", metavar="NAMES", help="Make objects of these classes unrecognisable, e.g. person."
    )
    return parts(blur(command))


def overlay_keys(parts: str | None, blur: str | None) -> dict[str, Any]:
    """The keys of the section ``overlay`` that ``--overlay`` and ``--blur`` set. Raises UsageError."""
    values: dict[str, Any] = {} if blur is None else {"blur": names_in(blur)}
    if parts is not None:
        chosen = [] if parts.strip() == "none" else names_in(parts)
        for bad in (part for part in chosen if part not in _PARTS):
            meant = hint(bad, _PARTS)
            raise UsageError(
                f"--overlay: {bad!r} cannot be painted{meant}; allowed: {', '.join(_PARTS)}, or none"
            )
        values |= {part: part in chosen for part in _PARTS}
    return values


def names_in(text: str) -> list[str]:
    """The names of a list with commas."""
    return [name.strip() for name in text.split(",")]
