"""The known name that a user may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that looks most like ``name``, whatever its case; None if none does."""
    by_plain = {one.lower(): one for one in known}
    found = get_close_matches(str(name).lower(), by_plain, n=1)
    return by_plain[found[0]] if found else None


def hint(name: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)`` to go behind an unknown name; empty if none comes near."""
    found = nearest(name, known)
    return f" (did you mean {found}?)" if found else ""
