"""The point at which an object stands."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamseg.masks.parts import main_box
from streamseg.types import Instances
from streamseg.zones.shapes import Point

Anchor = Literal["foot", "centre"]

_LOWEST = 0.05
"""This part of an object's height are its lowest rows: a shoe of somebody who is seen whole."""


def anchors_of(instances: Instances, anchor: Anchor) -> list[Point]:
    """x, y of each object in source pixels: one of the points below."""
    point = foot_point if anchor == "foot" else centroid
    return [point(crop, box) for crop, box in zip(instances.crops, instances.boxes.tolist(), strict=True)]


def foot_point(crop: NDArray[np.bool_], box: list[int]) -> Point:
    """Where the object touches the ground: the middle of the lowest rows of its largest piece.

    Args:
        crop: The mask inside its box.
        box: x1, y1, x2, y2 in source pixels, x2 and y2 exclusive.
    """
    x1, y1, x2, y2 = main_box(crop, box)
    rows = max(1, round(_LOWEST * (y2 - y1)))
    lowest = crop[y2 - rows - box[1] : y2 - box[1], x1 - box[0] : x2 - box[0]]
    columns = np.flatnonzero(lowest.any(axis=0))
    middle = (columns[0] + columns[-1] + 1) / 2 if columns.size else (x2 - x1) / 2
    return float(x1 + middle), float(y2)


def centroid(crop: NDArray[np.bool_], box: list[int]) -> Point:
    """The centre of mass of the mask; arguments as for :func:`foot_point`."""
    rows, columns = crop.sum(axis=1), crop.sum(axis=0)
    total = max(1, int(rows.sum()))
    y = (rows @ np.arange(0.5, len(rows))) / total
    x = (columns @ np.arange(0.5, len(columns))) / total
    return float(box[0] + x), float(box[1] + y)
