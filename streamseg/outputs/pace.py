"""The pace of a recording that is shown while it is read: that of its own clock."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST_WAIT = 4.0
"""Seconds between two pictures at most: a longer one is a jump of the clock."""
LATE = 1.0
"""Seconds of delay that are made up for; after a longer one the pace goes on from there."""


class Pace:
    """When each picture is due, counted from one that was on time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds."""
        self._clock = clock
        self._anchor: tuple[float, float] | None = None
        """Our clock and the recording's, at the picture that is counted from."""

    def seconds_until(self, seconds: float) -> float:
        """How long to wait for the picture at ``seconds`` of the recording, 0 or more."""
        now = self._clock()
        if self._anchor is None:
            self._anchor = (now, seconds)
        early = self._anchor[0] + (seconds - self._anchor[1]) - now
        if early > LONGEST_WAIT or early < -LATE:
            early = min(max(early, 0.0), LONGEST_WAIT)
            self._anchor = (now + early, seconds)
        return max(early, 0.0)
