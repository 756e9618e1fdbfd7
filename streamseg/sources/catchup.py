"""Keeping up with a camera that sends faster than this machine decodes. Runs in the decode worker."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 2.0
"""Seconds without waiting after which a live source counts as faster than its decoder."""
IDLE_SHARE = 0.02
"""Share of the time that reading waits for the camera, at least, while the decoder keeps up."""
NOTICEABLE = 0.005
"""Seconds of waiting that show that nothing lies in the socket any more: copying a packet takes far less."""


class CatchUp:
    """Says which packets of a live source to pass over, so that pictures do not get older and older.

    A reader that is slower than the camera finds the next packet there already, every time, while more
    pile up in the socket: after 20 s at 8 of 25 frames/s it is 13 s behind. Then all that lies there is
    passed over, and decoding goes on at the next key frame.
    """

    def __init__(self, *, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic) -> None:
        """``patience`` is in seconds of ``clock``."""
        self._patience, self._clock = patience, clock
        self._since = clock()
        self._waited = 0.0
        self._passing_over = self._empty = False

    def wants(self, *, waited: float, is_keyframe: bool) -> bool:
        """Whether to decode the next packet, which was waited for so many seconds."""
        if self._passing_over:
            self._empty = self._empty or waited > NOTICEABLE
            self._passing_over = not (self._empty and is_keyframe)
            self._begin()
        else:
            self._waited += waited
            self._look()
        return not self._passing_over

    def _look(self) -> None:
        seconds = self._clock() - self._since
        if seconds >= self._patience:
            self._passing_over, self._empty = self._waited < IDLE_SHARE * seconds, False
            self._begin()

    def _begin(self) -> None:
        self._since, self._waited = self._clock(), 0.0
