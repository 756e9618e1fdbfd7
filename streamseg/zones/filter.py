"""Which objects of a stream count at all: by class, score and place."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from streamseg.types import Instances
from streamseg.zones.shapes import Point, covered, to_pixels

_HALF = 0.5
"""An object is where at least this part of its mask is."""


class StreamFilter:
    """Leaves out the instances that a stream's user does not want to hear of."""

    def __init__(
        self,
        *,
        classes: Collection[str] | None = None,
        score: float = 0.0,
        region: Sequence[Sequence[Point]] = (),
        ignore: Sequence[Sequence[Point]] = (),
    ) -> None:
        """Polygons are points x, y, as fractions of the picture or pixels.

        Args:
            classes: Names to keep; None keeps all.
            score: Lowest score to keep.
            region: Keep objects that lie in these polygons by half or more; without any: everywhere.
            ignore: Leave out objects that lie in one of these polygons by half or more.
        """
        self._classes, self._score = classes, score
        self._region, self._ignore = region, ignore
        self._size = (0, 0)
        self._inside: NDArray[np.bool_] | None = None
        self._outside: list[NDArray[np.bool_]] = []

    def __call__(self, instances: Instances) -> Instances:
        """Those that are wanted, in the same order."""
        if not len(instances):
            return instances
        self._fit(instances.height, instances.width)
        kept = [i for i in range(len(instances)) if self._wants(instances, i)]
        return instances if len(kept) == len(instances) else instances[kept]

    def _fit(self, height: int, width: int) -> None:
        """Draw the polygons at the size of the picture, which may change between two connections."""
        if self._size == (height, width):
            return
        self._size = (height, width)

        def area(polygons: Sequence[Sequence[Point]]) -> NDArray[np.bool_]:
            pixels = [to_pixels(polygon, width=width, height=height) for polygon in polygons]
            return covered(pixels, width=width, height=height)

        self._inside = area(self._region) if self._region else None
        self._outside = [area([polygon]) for polygon in self._ignore]

    def _wants(self, instances: Instances, i: int) -> bool:
        if round(float(instances.scores[i]), 4) < self._score:  # a float32 0.7 is a little less than 0.7
            return False
        if self._classes is not None and instances.labels[i] not in self._classes:
            return False
        if self._inside is not None and _share(instances, i, self._inside) < _HALF:
            return False
        return all(_share(instances, i, area) < _HALF for area in self._outside)


def _share(instances: Instances, i: int, area: NDArray[np.bool_]) -> float:
    """The part of a mask that lies in ``area``, (height, width)."""
    x1, y1, x2, y2 = instances.boxes[i].tolist()
    crop = instances.crops[i]
    return float(np.count_nonzero(area[y1:y2, x1:x2] & crop) / max(1, int(np.count_nonzero(crop))))
