"""Which colour an instance has."""

import numpy as np

from streamseg.types import Instances

Colour = tuple[int, int, int]

# Okabe and Ito's colours without black, then five of Paul Tol's that stay apart from them for
# colour-blind eyes. The order puts the most different ones next to each other: ids and ranks count up.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (204, 121, 167),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (170, 170, 0),
    (238, 136, 102),
    (119, 170, 221),
    (170, 51, 119),
    (153, 221, 255),
)


def colour_of(number: int) -> Colour:
    """The colour of a track id, class or rank."""
    return PALETTE[number % len(PALETTE)]


def colours_of(instances: Instances) -> list[Colour]:
    """N colours: by track id, so that an object keeps its own; by class while it has no id.

    Without tracking by rank from left to right, so that neighbours differ.
    """
    ids = instances.ids or (None,) * len(instances)
    if all(id_ is None for id_ in ids):
        left = instances.boxes.reshape(-1, 4)[:, 0]
        ranks: list[int] = np.argsort(np.argsort(left, kind="stable")).tolist()
        return [colour_of(rank) for rank in ranks]
    classes: list[int] = instances.class_ids.tolist()
    return [colour_of(c if id_ is None else id_) for id_, c in zip(ids, classes, strict=True)]


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is read better on ``colour``."""
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (0, 0, 0) if luminance > 110 else (255, 255, 255)
