"""The point at which an object stands."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamseg.masks.parts import main_boxes
from streamseg.types import Instances
from streamseg.zones.shapes import Point

Anchor = Literal["foot", "centre"]

_LOWEST = 0.05
"""This part of an object's height are its lowest rows: a shoe of somebody who is seen whole."""
_SAMPLES = 32
"""Of a mask's rows, and of its columns, at most so many tell its centre: all of them take eight times as long
and move it by half a pixel."""


def anchors_of(instances: Instances, anchor: Anchor) -> list[Point]:
    """x, y of each object in source pixels: one of the points below."""
    points = foot_points(instances) if anchor == "foot" else centroids(instances)
    return [(x, y) for x, y in points.tolist()]


def foot_points(instances: Instances) -> NDArray[np.float64]:
    """Where objects touch the ground: the middle of the lowest rows of their largest pieces, (N, 2)."""
    main = instances.main_boxes
    if main is None:
        main = main_boxes(instances.boxes, instances.crops)
    if not len(instances):
        return np.zeros((0, 2))
    widths = main[:, 2] - main[:, 0]
    used = np.zeros((len(instances), int(widths.max())), np.bool_)
    """Whether a column of the piece has a pixel in the lowest rows."""
    heights = main[:, 3] - main[:, 1]
    starts = main[:, 3] - np.maximum(1, np.rint(_LOWEST * heights).astype(np.int64))
    rows = np.stack([starts, main[:, 3]], axis=1) - instances.boxes[:, 1:2]
    columns = main[:, 0:3:2] - instances.boxes[:, 0:1]
    places = zip(instances.crops, rows.tolist(), columns.tolist(), used, strict=True)
    for crop, (top, bottom), (left, right), row in places:
        np.logical_or.reduce(crop[top:bottom, left:right], axis=0, out=row[: right - left])
    first = used.argmax(axis=1)
    last = used.shape[1] - used[:, ::-1].argmax(axis=1)
    middle = np.where(used.any(axis=1), (first + last) / 2, widths / 2)
    return np.stack([main[:, 0] + middle, main[:, 3].astype(np.float64)], axis=1)


def centroids(instances: Instances) -> NDArray[np.float64]:
    """The centres of mass of the masks, (N, 2)."""
    boxes = instances.boxes
    sides = boxes[:, 2:] - boxes[:, :2]  # width, height
    steps = np.maximum(1, -(-sides // _SAMPLES))
    samples = np.zeros((len(instances), _SAMPLES, _SAMPLES), np.uint8)
    for crop, (across, down), sample in zip(instances.crops, steps.tolist(), samples, strict=True):
        picked = crop[down // 2 :: down, across // 2 :: across]
        sample[: picked.shape[0], : picked.shape[1]] = picked
    places = np.arange(_SAMPLES)
    of_columns, of_rows = (samples.sum(axis=axis, dtype=np.uint16) for axis in (1, 2))
    mass = np.maximum(1, of_rows.sum(axis=1))
    means = np.stack([of_columns @ places, of_rows @ places], axis=1) / mass[:, None]
    centres: NDArray[np.float64] = boxes[:, :2] + means * steps + steps // 2 + 0.5
    return centres
