"""One zone: who is in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from streamseg.config import ZoneConfig
from streamseg.zones.shapes import Point, to_pixels

Change = Literal["enter", "leave", "dwell"]


@dataclass(slots=True)
class Presence:
    """Whether one object is in the zone, as far as that is certain."""

    inside: bool = False
    since: float = 0.0
    """Seconds on the stream's clock when it was found to be inside."""
    told: bool = False
    """Whether this visit's ``dwell`` was told."""
    contrary: int = 0
    """Frames in a row that say otherwise."""


class Zone:
    """A polygon at the size of the picture."""

    def __init__(self, config: ZoneConfig, *, width: int, height: int) -> None:
        self.config = config
        self._polygon = to_pixels(config.polygon, width=width, height=height).astype(np.float32)
        self._left, self._top = self._polygon.min(axis=0).tolist()
        self._right, self._bottom = self._polygon.max(axis=0).tolist()

    def holds(self, point: Point) -> bool:
        """Whether a point, in source pixels, lies in the zone or on its edge."""
        # Most objects are far from most zones: this takes a tenth of the time.
        near = self._left <= point[0] <= self._right and self._top <= point[1] <= self._bottom
        return near and cv2.pointPolygonTest(self._polygon, point, measureDist=False) >= 0

    def update(self, presence: Presence, *, inside: bool, now: float) -> Change | None:
        """Take in whether the object is inside; returns the event that follows, if any.

        ``now`` is in seconds on the stream's clock. A change counts after ``inertia`` frames in a row.
        """
        presence.contrary = presence.contrary + 1 if inside != presence.inside else 0
        if presence.contrary >= self.config.inertia:
            presence.inside, presence.contrary = inside, 0
            presence.since, presence.told = now, False
            return "enter" if inside else "leave"
        dwell = self.config.dwell
        if dwell is not None and presence.inside and not presence.told and now - presence.since >= dwell:
            presence.told = True
            return "dwell"
        return None
