"""What is told of objects that pass zones and lines."""

from typing import Literal

import msgspec

Counts = dict[str, int | dict[str, int]]
"""By name: how many objects are in a zone; how many have crossed a line in each direction."""

EVENT_VERSION = 1


class ZoneEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An object entered or left a zone, stayed in it, or crossed a line; version 1."""

    v: int = msgspec.field(default_factory=lambda: EVENT_VERSION)
    """Version of this format."""
    stream: str
    """Id of the stream."""
    epoch: int
    """As of the result."""
    frame: int
    """Number of the frame in which it became certain: some frames after it happened, see inertia."""
    pts: float
    """Seconds on the stream's clock, of that frame."""
    time: float
    """UNIX seconds when that frame was decoded."""
    event: Literal["enter", "leave", "dwell", "cross"]
    """What happened."""
    zone: str | None = None
    """Name of the zone; absent if it is a line."""
    line: str | None = None
    """Name of the line; absent if it is a zone."""
    direction: Literal["in", "out"] | None = None
    """Of a crossing. ``in`` is from the left to the right of somebody who walks along the line from its first
    point to its last: down the picture, if the line is drawn from left to right."""
    id: int
    """The object's track id."""
    label: str
    """Name of the object's class."""
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in source pixels where it was last seen, x2 and y2 exclusive."""
    counts: Counts
    """Those of the stream after this event."""
    source: str = ""
    """As of the result."""
