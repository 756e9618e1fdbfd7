"""Waiting between attempts: without end while a run goes on, bounded once it is over."""

from __future__ import annotations

import threading
import time


class BoundedWait:
    """Pauses that end early when a peer has been away for too long at the end of a run. Any thread."""

    def __init__(self, patience: float) -> None:
        """``patience``: seconds to wait for the peer once :meth:`hurry` was called."""
        self._patience = patience
        self._hurried_at = float("inf")
        self._changed = threading.Condition()

    def hurry(self, patience: float | None = None) -> None:
        """Bound the waits from now on, by ``patience`` seconds if given."""
        with self._changed:
            if patience is not None:
                self._patience = min(self._patience, patience)
            self._hurried_at = min(self._hurried_at, time.monotonic())
            self._changed.notify_all()

    def pause(self, seconds: float, *, since: float) -> bool:
        """Wait so many seconds; False, perhaps sooner, if patience with an outage ``since`` is at its end.

        ``since`` is in seconds of the monotonic clock.
        """
        until = time.monotonic() + seconds
        with self._changed:
            while (now := time.monotonic()) < until:
                left = max(since, self._hurried_at) + self._patience - now
                if left <= 0:
                    return False
                self._changed.wait(min(until - now, left))
        return True
