"""One zone: who is in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamseg.config import ZoneConfig
from streamseg.zones.shapes import Point, contains, to_pixels


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

    def holds(self, point: Point) -> bool:
        """Whether a point, in source pixels, lies in the zone or on its edge."""
        return contains(self._polygon, point)

    def update(self, presence: Presence, *, inside: bool, now: float) -> str | None:
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
