"""Polygons around masks, exact or simpler, for formats that know no run lengths.

Two kinds of coordinates are in use. Of tools that fill an area between edges (COCO, CVAT) a pixel reaches
from its number to the next one; of tools that draw with OpenCV a point is a pixel, and the pixels on the
outline belong to the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""(n, 2) x, y of a closed polygon's corners; the last one is joined to the first."""

Points = NDArray[np.int32]
"""(n, 2) x, y in pixels."""

_PAIRS = 1 << 20
"""Of corners compared at a time: 16 MB."""


@dataclass(frozen=True, slots=True)
class Part:
    """A connected piece of a mask."""

    outer: Ring
    holes: tuple[Ring, ...]

    def ring(self) -> Ring:
        """One ring that leaves the holes out: joined to the outer one by cuts without width."""
        return join_rings([self.outer, *self.holes])


def edge_parts(crop: NDArray[np.bool_], corner: Sequence[int], *, tolerance: float = 0.0) -> list[Part]:
    """The pieces of a mask, outlined along the edges of its pixels, the largest first.

    Args:
        crop: (h, w) bool, the mask inside its box.
        corner: x, y of the box's upper left corner.
        tolerance: Pixels by which an outline may be off, to have fewer corners; 0 is exact.
    """
    # OpenCV outlines pixels, not their edges: in a picture twice as large, the corners of pixel k are the
    # pixels 2k and 2k + 1, which stand for the edges k and k + 1.
    double = crop.view(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    return _parts(double, corner, tolerance, edges=True)


def pixel_parts(crop: NDArray[np.bool_], corner: Sequence[int], *, tolerance: float = 0.0) -> list[Part]:
    """The same, outlined through the outermost pixels: the point of pixel k is k."""
    return _parts(np.ascontiguousarray(crop).view(np.uint8), corner, tolerance, edges=False)


def join_rings(rings: Sequence[Ring]) -> Ring:
    """One ring of several, joined where they are nearest by cuts that are walked in both directions.

    An area filled by the even-odd rule is the same as before; a line along a cut may stay where pixels on
    an outline are filled as well.
    """
    joined, left = rings[0], [(_nearest(rings[0], ring), ring) for ring in rings[1:]]
    while left:
        k = min(range(len(left)), key=lambda one: left[one][0].distance)
        cut, ring = left.pop(k)
        joined = _spliced(joined, ring, cut)
        left = [(min(known, _nearest(ring, other), key=_distance), other) for known, other in left]
    return joined


class _Cut(NamedTuple):
    distance: float
    """Squared, in pixels."""
    begin: Ring
    """(2,) a corner of the one ring."""
    end: Ring
    """(2,) a corner of the other ring."""


def _distance(cut: _Cut) -> float:
    return cut.distance


def _nearest(one: Ring, other: Ring) -> _Cut:
    """Between the two corners that are nearest."""
    cuts = []
    rows = max(1, _PAIRS // len(other))
    for some in (one[row : row + rows] for row in range(0, len(one), rows)):
        squares = ((some[:, None] - other[None]) ** 2).sum(axis=2)
        i, j = divmod(int(squares.argmin()), len(other))
        cuts.append(_Cut(float(squares[i, j]), some[i], other[j]))
    return min(cuts, key=_distance)


def _spliced(joined: Ring, ring: Ring, cut: _Cut) -> Ring:
    """``joined`` with a round trip along ``cut`` and once around ``ring``."""
    place, first = _place(joined, cut.begin), _place(ring, cut.end)
    around = np.concatenate([ring[first:], ring[: first + 1]])
    return np.concatenate([joined[: place + 1], around, joined[place:]])


def _place(ring: Ring, corner: Ring) -> int:
    return int(np.flatnonzero((ring == corner).all(axis=1))[0])


def _parts(mask: NDArray[np.uint8], corner: Sequence[int], tolerance: float, *, edges: bool) -> list[Part]:
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if tree is None:
        return []
    rings = [_ring(outline, corner, tolerance, edges=edges) for outline in outlines]
    parents = tree[0, :, 3].tolist()
    parts = [
        Part(ring, tuple(hole for hole, parent in zip(rings, parents, strict=True) if parent == number))
        for number, (ring, own) in enumerate(zip(rings, parents, strict=True))
        if own < 0
    ]
    return sorted(parts, key=lambda part: -_area(part.outer))


def _ring(outline: Points, corner: Sequence[int], tolerance: float, *, edges: bool) -> Ring:
    points: Points = outline.reshape(-1, 2)
    if edges:
        points = _corners((points + 1) // 2)
    if tolerance:
        simple: Points = cv2.approxPolyDP(points, tolerance, True).reshape(-1, 2)
        points = points if len(simple) < 3 else simple
    ring: Ring = points.astype(np.float64) + np.array(corner[:2])
    return ring


def _corners(points: Points) -> Points:
    """Without points that are those before, or lie on the straight line between their neighbours."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    corners: Points = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return corners


def _area(ring: Ring) -> float:
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
