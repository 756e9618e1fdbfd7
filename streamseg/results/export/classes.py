"""Numbers of classes in a file of labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def number_classes(classes: Iterable[tuple[str, int]], known: Sequence[str] = ()) -> dict[str, int]:
    """The number of each label, in the order of numbers.

    These are the class ids of the results, so that files made of different recordings fit each other; or, if
    results of different models disagree about them, the places of the labels in the alphabet.

    Args:
        classes: Labels and class ids that occur together.
        known: All class names of the model, in its order, if they are known: they get a number as well.
    """
    pairs = {*classes, *((name, number) for number, name in enumerate(known))}
    labels, numbers = {label for label, _ in pairs}, {number for _, number in pairs}
    if len(labels) == len(pairs) == len(numbers):
        return dict(sorted(pairs, key=lambda pair: pair[1]))
    return {label: number for number, label in enumerate(sorted(labels))}
