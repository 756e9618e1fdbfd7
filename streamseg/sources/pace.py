"""Time in the decode worker: frames without a time of their own, and frames that come in bursts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction

NOTICEABLE = 0.005
"""Seconds of waiting which show that nothing more was there: reading a packet takes far less."""
HURRY = 0.95
"""Pace of a burst: a little faster than the camera, so that a lag becomes smaller from segment to segment."""
LONGEST_WAIT = 1.0
"""Seconds between two frames at most: a longer one is a jump of the camera's clock."""
ARRIVAL_TIME_BASE = Fraction(1, 90_000)


class ArrivalTimer:
    """Gives every frame the time of its arrival, in ticks of 1/90000 s since the first one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: float | None = None
        self._last = -1

    def ticks(self) -> int:
        """For a frame that came just now; larger than that of the frame before."""
        now = self._clock()
        self._first = now if self._first is None else self._first
        self._last = max(self._last + 1, round((now - self._first) / ARRIVAL_TIME_BASE))
        return self._last


class BurstPacer:
    """Spreads the frames of a segment, which come all at once, over the time until the next segment.

    A burst of 50 frames would leave a model that is idle otherwise with the last few of them. Frames go on at
    the times that the stream says, counted from one that was waited for: that one is as new as can be had.
    What is late without having been waited for is not held up, so a lag lasts for a segment at most.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``clock`` and ``sleep`` are in seconds."""
        self._clock, self._sleep = clock, sleep
        self._anchor: tuple[float, float] | None = None
        """Clock and stream time of the frame that is counted from."""

    def pace(self, seconds: float | None, *, waited: float) -> None:
        """Return when a packet is due that lies at ``seconds`` of the stream; reading it took ``waited``."""
        if seconds is None:
            return
        now = self._clock()
        early = self._due(seconds) - now
        if self._anchor is None or early > LONGEST_WAIT or (early <= 0 and waited > NOTICEABLE):
            self._anchor = (now, seconds)
        elif early > 0:
            self._sleep(early)

    def _due(self, seconds: float) -> float:
        if self._anchor is None:
            return -math.inf
        return self._anchor[0] + (seconds - self._anchor[1]) * HURRY
