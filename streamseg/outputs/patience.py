"""Trying again until a peer is there, and for how long once the run is over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from streamseg.errors import OutputGoneError

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two attempts; each pause is twice as long as the one before."""

_Answer = TypeVar("_Answer")


class PeerAwayError(Exception):
    """What is raised for a failure that may pass: the attempt is made again."""


class Patience:
    """Repeats what fails, without end while the run goes on. Any thread."""

    def __init__(self, peer: str, seconds: float) -> None:
        """``peer`` is its name, for messages; ``seconds`` to wait for it once :meth:`hurry` was called."""
        self._peer, self._seconds = peer, seconds
        self._hurried_at = float("inf")
        self._changed = threading.Condition()

    def hurry(self, seconds: float | None = None) -> None:
        """Bound the waits from now on, by ``seconds`` if given."""
        with self._changed:
            if seconds is not None:
                self._seconds = min(self._seconds, seconds)
            self._hurried_at = min(self._hurried_at, time.monotonic())
            self._changed.notify_all()

    def retry(self, action: Callable[[], _Answer]) -> _Answer:
        """Run ``action`` until it raises no PeerAwayError.

        Raises:
            OutputGoneError: The peer was away for too long at the end of the run.
        """
        since: float | None = None
        pause = FIRST_PAUSE
        while True:
            try:
                answer = action()
            except PeerAwayError as error:
                if since is None:
                    since = time.monotonic()
                    logger.warning("%s cannot be reached (%s), trying on", self._peer, error)
                self._wait(pause, since, error)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if since is not None:
                    logger.warning("%s is back after %.1f s", self._peer, time.monotonic() - since)
                return answer

    def _wait(self, pause: float, since: float, error: PeerAwayError) -> None:
        until = time.monotonic() + pause
        with self._changed:
            while (now := time.monotonic()) < until:
                left = max(since, self._hurried_at) + self._seconds - now
                if left <= 0:
                    raise OutputGoneError(f"{self._peer} cannot be reached ({error})") from None
                self._changed.wait(min(until - now, left))
