"""Zones and lines of an overlay, with what was counted at them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.overlay.labels import write_text
from streamseg.overlay.palette import Colour
from streamseg.types.zones import Counts
from streamseg.zones import StreamRules
from streamseg.zones.shapes import Point, to_pixels

_WHITE: Colour = (255, 255, 255)
"""The colour of no object."""
_FINE = 4
"""Fractional bits of coordinates."""
_ARROW = 0.06
"""Length of the arrow that shows which way is in, in shorter sides of the picture."""


def draw_places(
    picture: NDArray[np.uint8],
    rules: StreamRules,
    counts: Counts,
    *,
    source: tuple[int, int],
    thickness: int,
    scale: float,
) -> None:
    """Draw the zones and lines of a stream into its (height, width, 3) picture, at any size.

    Args:
        picture: uint8 RGB, drawn into.
        rules: Those of the stream.
        counts: What a result says of them.
        source: Width and height of the stream's pictures, whose pixels its shapes may be given in.
        thickness: Of lines, in pixels.
        scale: Of the font.
    """
    height, width = picture.shape[:2]

    def here(points: Sequence[Point]) -> NDArray[np.float64]:
        scale = np.array([width / source[0], height / source[1]])
        scaled: NDArray[np.float64] = to_pixels(points, width=source[0], height=source[1]) * scale
        return scaled

    for name, zone in rules.zones.items():
        corners = here(zone.polygon)
        _draw(picture, corners, closed=True, thickness=thickness)
        top = corners[np.lexsort((corners[:, 0], corners[:, 1]))[0]]
        write_text(picture, f"{name} {counts.get(name, 0)}", _at(top), _WHITE, scale=scale)
    for name, line in rules.lines.items():
        ends = here(line.points)
        _draw(picture, ends, closed=False, thickness=thickness)
        middle = ends.mean(axis=0)
        tip = middle + _right_of(ends) * _ARROW * min(height, width)
        cv2.arrowedLine(picture, _at(middle), _at(tip), _WHITE, thickness, cv2.LINE_AA, tipLength=0.4)
        crossed = counts.get(name, {})
        passed = crossed if isinstance(crossed, dict) else {}
        text = f"{name} in {passed.get('in', 0)} out {passed.get('out', 0)}"
        write_text(picture, text, _at(ends[0]), _WHITE, scale=scale)


def _draw(picture: NDArray[np.uint8], points: NDArray[np.float64], *, closed: bool, thickness: int) -> None:
    """White with a dark edge: seen on any ground."""
    fixed = np.rint(points * (1 << _FINE)).astype(np.int32)
    for colour, width in (((0, 0, 0), thickness + 2), (_WHITE, thickness)):
        cv2.polylines(picture, [fixed], closed, colour, width, cv2.LINE_AA, _FINE)


def _right_of(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector to the right of the line's direction; y points down."""
    dx, dy = ends[1] - ends[0]
    across: NDArray[np.float64] = np.array([-dy, dx]) / max(1e-6, float(np.hypot(dx, dy)))
    return across


def _at(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
