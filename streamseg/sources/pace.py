"""Time in the decode worker: frames without a time of their own, that come in bursts, or too often."""

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


class RateLimit:
    """Takes at most so many frames a second, spaced as evenly as they come.

    Those are taken that lie nearest to the ticks of a clock: of 25 frames a second every second or third
    makes 10, where every third would make 8 and every second 12.5. A stream that is no faster than the
    clock loses none, although its frames come up to a quarter of their distance early or late.
    """

    def __init__(self, fps: float | None) -> None:
        """``fps``: frames a second, more than 0; None takes all."""
        self._fps = fps
        self._due: float | None = None
        """Seconds on the stream's clock of the next tick."""
        self._last: float | None = None
        """Seconds of the last frame, taken or not."""
        self._gap = 0.0
        """Usual seconds between two frames."""

    def change(self, fps: float | None) -> None:
        """Go on at another rate."""
        if fps != self._fps:
            self._fps, self._due = fps, None

    def takes(self, seconds: float) -> bool:
        """Whether to take the next frame, which is shown at ``seconds`` on the stream's clock."""
        if self._fps is None:
            return True
        self._learn_gap(seconds)
        interval = 1 / self._fps
        # A clock that was set back must not end the stream.
        due = seconds if self._due is None or self._due > seconds + 2 * interval else self._due
        if seconds < due - min(self._gap, interval) / 2:  # the next frame will lie nearer
            return False
        # A tick without a frame is over: what was missed is not made up for.
        self._due = max(due + interval, seconds)
        return True

    def _learn_gap(self, seconds: float) -> None:
        if self._last is not None:
            gap = max(0.0, seconds - self._last)
            self._gap = gap if self._gap == 0 else self._gap + (gap - self._gap) / 8
        self._last = seconds
