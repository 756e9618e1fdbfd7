"""Pixels that are not square: the network sees true shapes, results stay in pixels of the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.types import Frame, Instances


def shown_size(height: int, width: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Height and width in square pixels: the side that is too short is made longer."""
    if pixel_aspect >= 1:
        return height, round(width * pixel_aspect)
    return round(height / pixel_aspect), width


def as_shown(frame: Frame) -> NDArray[np.uint8]:
    """The picture of a frame in square pixels, (H, W, 3) uint8."""
    if frame.pixel_aspect == 1:
        return frame.pixels
    height, width = shown_size(frame.height, frame.width, frame.pixel_aspect)
    return np.asarray(cv2.resize(frame.pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def in_source_pixels(frame: Frame, find: Callable[[], Instances]) -> Instances:
    """What ``find`` found in the picture of :func:`as_shown`, at the size of ``frame``."""
    found = find()
    size = (frame.height, frame.width)
    return found if (found.height, found.width) == size else resized(found, *size)


def resized(instances: Instances, height: int, width: int) -> Instances:
    """Instances at another size, without what was made of their masks; those without a pixel are left out."""
    parts = [
        _resized_crop(box, crop, height / instances.height, width / instances.width)
        for box, crop in zip(instances.boxes.tolist(), instances.crops, strict=True)
    ]
    kept = [i for i, (_, crop) in enumerate(parts) if crop.size]
    chosen = instances[kept]
    boxes = np.array([parts[i][0] for i in kept], np.int64).reshape(-1, 4)
    crops = tuple(parts[i][1] for i in kept)
    return replace(
        chosen, height=height, width=width, boxes=boxes, crops=crops, run_lengths=(), main_boxes=None
    )


def _resized_crop(
    box: tuple[int, int, int, int], crop: NDArray[np.bool_], down: float, across: float
) -> tuple[tuple[int, int, int, int], NDArray[np.bool_]]:
    """The mask in each new pixel is that of the old one at its centre; the box is tight again."""
    x1, y1, x2, y2 = box
    left, columns = _old_places(x1, x2, across)
    top, rows = _old_places(y1, y2, down)
    mask = crop[np.ix_(rows, columns)]
    used_rows, used_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not used_rows.size:
        return (0, 0, 0, 0), np.zeros((0, 0), np.bool_)
    r1, r2, c1, c2 = used_rows[0], used_rows[-1] + 1, used_columns[0], used_columns[-1] + 1
    new_box = (int(left + c1), int(top + r1), int(left + c2), int(top + r2))
    return new_box, np.ascontiguousarray(mask[r1:r2, c1:c2])


def _old_places(begin: int, end: int, scale: float) -> tuple[int, NDArray[np.int64]]:
    """The first new pixel whose centre lies in ``begin`` to ``end``, and where each is from ``begin`` on."""
    first, last = int(np.ceil(begin * scale - 0.5)), int(np.ceil(end * scale - 0.5))
    places = np.floor((np.arange(first, last) + 0.5) / scale).astype(np.int64) - begin
    return first, np.clip(places, 0, end - begin - 1)
