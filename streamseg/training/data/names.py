"""Names of classes and of categories, which are the same or nearly."""

import difflib
from collections.abc import Iterator, Sequence

from streamseg.training.data.problems import Fault

_NAMED = 12
"""So many categories are named; LVIS has 1203."""


def missing_class(name: str, categories: Sequence[str]) -> str:
    """Says that no category has the name, what there is, and which is nearly the same."""
    close = near(name, categories)
    there = ", ".join(categories[:_NAMED]) + (", ..." if len(categories) > _NAMED else "")
    hint = f" (is it {close!r}?)" if close is not None else ""
    return f"no category is called {name!r}{hint}; there are {there or 'none'}"


def near(name: str, categories: Sequence[str]) -> str | None:
    """The category of nearly that name: other capitals or signs, else a few other letters."""
    alike = [other for other in categories if _letters(other) == _letters(name)]
    return next(iter([*alike, *difflib.get_close_matches(name, categories, n=1, cutoff=0.75)]), None)


def without_match(classes: Sequence[str], categories: Sequence[str]) -> Iterator[Fault]:
    """What is wrong with the categories of a file to score on.

    It may lack classes. A class that is there in other capitals can only be meant.
    """
    kind = "classes without a category"
    alike = {_letters(category) for category in categories}
    meant = [name for name in classes if name not in categories and _letters(name) in alike]
    yield from (Fault(kind, missing_class(name, categories)) for name in meant)
    if not meant and not set(classes) & set(categories):
        there = ", ".join(categories[:_NAMED]) or "none"
        yield Fault(kind, f"holds none of the classes {', '.join(classes)}; there are {there}")


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
