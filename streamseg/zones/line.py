"""One line: who has crossed it, and in which direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from streamseg.config import LineConfig
from streamseg.zones.shapes import Point, to_pixels

Direction = Literal["in", "out"]

_TINY = 1e-6
"""Pixels: a point so close to the line is on neither side."""


@dataclass(slots=True)
class Position:
    """On which side of the line one object is, as far as that is certain."""

    side: int = 0
    """1 right, -1 left, 0 not known yet."""
    last: Point = (0.0, 0.0)
    """Where it was last seen on that side."""
    contrary: int = 0
    """Frames in a row on the other side."""
    through: bool = False
    """Whether it came to the other side between the ends of the line."""


class Line:
    """A line at the size of the picture.

    Sides are those of the endless straight line: an object that walks round an end changes sides without
    crossing. One that was hidden meanwhile is taken to have come the straight way.
    """

    def __init__(self, config: LineConfig, *, width: int, height: int) -> None:
        self.config = config
        ends: list[list[float]] = to_pixels(config.points, width=width, height=height).tolist()
        (self._ax, self._ay), (bx, by) = ends
        self._dx, self._dy = bx - self._ax, by - self._ay
        self._length = max(_TINY, math.hypot(self._dx, self._dy))

    def update(self, position: Position, point: Point) -> Direction | None:
        """Take in where the object is, in source pixels; returns the direction in which it has crossed.

        A change of sides counts after ``inertia`` frames in a row; being on the line changes nothing.
        """
        side = self._side(point)
        if side == 0:
            return None
        if position.side in {0, side}:
            position.side, position.last, position.contrary = side, point, 0
            return None
        if position.contrary == 0:
            position.through = self._between_ends(position.last, point)
        position.contrary += 1
        if position.contrary < self.config.inertia:
            return None
        position.side, position.last, position.contrary = side, point, 0
        if not position.through:
            return None
        return "in" if side > 0 else "out"

    def _distance(self, point: Point) -> float:
        """Pixels from the straight line, more than 0 on its right (y points down)."""
        return (self._dx * (point[1] - self._ay) - self._dy * (point[0] - self._ax)) / self._length

    def _side(self, point: Point) -> int:
        distance = self._distance(point)
        return 0 if abs(distance) <= _TINY else (1 if distance > 0 else -1)

    def _between_ends(self, before: Point, after: Point) -> bool:
        """Whether the way between two points on different sides leads through the line; ends count."""
        left, right = self._distance(before), self._distance(after)
        part = left / (left - right)
        x, y = (b + part * (a - b) for b, a in zip(before, after, strict=True))
        along = ((x - self._ax) * self._dx + (y - self._ay) * self._dy) / self._length
        return -_TINY <= along <= self._length + _TINY
