"""Points that a user gives, as pixels; and which pixels a polygon covers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]

_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV fills polygons with."""


def to_pixels(points: Sequence[Point], *, width: int, height: int) -> NDArray[np.float64]:
    """(n, 2) x, y in source pixels.

    Where all numbers are at most 1 they are fractions of the picture, otherwise pixels already.
    """
    pixels = np.array(points, np.float64)
    return pixels if (pixels > 1).any() else pixels * (width, height)


def covered(polygons: Sequence[NDArray[np.float64]], *, width: int, height: int) -> NDArray[np.bool_]:
    """(height, width): the pixels that the polygons, each (n, 2) x, y in pixels, cover or touch."""
    area = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        # The centre of the pixel in column 0 lies at x = 0.5, which OpenCV calls 0.
        corners = np.rint((polygon - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(area, [corners], 1, shift=_SHIFT)
    return area.view(np.bool_)
