"""Trying again until a peer is there, and for how long once the run is over."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from streamseg.errors import OutputGoneError
from streamseg.waiting import BoundedWait

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between two attempts; each pause is twice as long as the one before."""
HEALTHY_SECONDS = 10.0
"""Seconds for which a peer has to be back until its next loss counts as the first one."""
END_SECONDS = 120.0
"""For a peer that is away once all sources have ended by themselves: time to restart it on another machine.
Whoever stops a run sets a shorter limit."""

_Answer = TypeVar("_Answer")


class PeerAwayError(Exception):
    """What is raised for a failure that may pass: the attempt is made again."""


class Patience:
    """Repeats what fails, without end while the run goes on. Any thread."""

    def __init__(self, peer: str, seconds: float = END_SECONDS, *, away: str = "cannot be reached") -> None:
        """``peer`` and ``away`` are for messages; ``seconds`` to wait once :meth:`hurry` was called."""
        self._peer, self._away, self._wait = peer, away, BoundedWait(seconds)
        self.trouble: str | None = None
        """Why something is tried again just now, for anybody to look at."""
        self._pause, self._back_at = FIRST_PAUSE, -math.inf

    def hurry(self, seconds: float | None = None) -> None:
        """Bound the waits from now on, by ``seconds`` if given."""
        self._wait.hurry(seconds)

    def wait(self, seconds: float) -> None:
        """Wait so long, for something else; less if that is more than the patience at the end of the run."""
        if seconds > 0:
            self._wait.pause(seconds, since=time.monotonic())

    def retry(self, action: Callable[[], _Answer]) -> _Answer:
        """Run ``action`` until it raises no PeerAwayError.

        Raises:
            OutputGoneError: The peer was away for too long at the end of the run.
        """
        since: float | None = None
        while True:
            try:
                answer = action()
            except PeerAwayError as error:
                if since is None:
                    since = time.monotonic()
                    if since - self._back_at > HEALTHY_SECONDS:
                        self._pause = FIRST_PAUSE
                    logger.warning("%s %s (%s), trying on", self._peer, self._away, error)
                self.trouble = f"{self._peer} {self._away} ({error})"
                if not self._wait.pause(self._pause, since=since):
                    raise OutputGoneError(self.trouble) from None
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            except BaseException:
                if since is not None:
                    self.trouble = None  # it is another one, which is told where this is caught
                raise
            else:
                if since is not None:
                    self._back_at = time.monotonic()
                    logger.warning("%s is back after %.1f s", self._peer, self._back_at - since)
                    self.trouble = None
                return answer
