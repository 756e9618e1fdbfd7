"""Time stamps of an overlay: they begin at 0, and go on in real time when a camera's clock starts again."""

from __future__ import annotations

from fractions import Fraction

from streamseg.types import Frame


class Timeline:
    """Gives the frames of one stream their time stamps."""

    def __init__(self, timescale: int, *, tick_per_frame: int, begin: Fraction | None = None) -> None:
        """Set up.

        Args:
            timescale: Ticks a second of the time stamps.
            tick_per_frame: What lies at least between the frames of two connections.
            begin: Second on the stream's clock that is second 0; None for the first frame's.
        """
        self._timescale, self._tick_per_frame, self._begin = timescale, tick_per_frame, begin
        self._epoch: int | None = None
        self._origin = Fraction()
        """Second on the stream's clock that is second 0."""
        self._last_pts = 0
        self._last_decoded = 0.0
        """Monotonic seconds when the last frame was decoded."""

    def pts(self, frame: Frame) -> int:
        """Time stamp of the next frame, in ticks."""
        seconds = frame.ticks * frame.time_base
        if frame.epoch != self._epoch:
            self._origin = self._origin_of(frame, seconds)
            self._epoch = frame.epoch
        self._last_pts = round((seconds - self._origin) * self._timescale)
        self._last_decoded = frame.decoded_at
        return self._last_pts

    def _origin_of(self, frame: Frame, seconds: Fraction) -> Fraction:
        if self._epoch is None:
            return seconds if self._begin is None else self._begin
        # The clock of a camera starts anew after a reconnect: the time in between is taken from ours.
        gap = max(frame.decoded_at - self._last_decoded, 0.0)
        ticks = max(round(gap * self._timescale), self._tick_per_frame)
        return seconds - Fraction(self._last_pts + ticks, self._timescale)
