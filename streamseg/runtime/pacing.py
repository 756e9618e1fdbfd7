"""When to form the next batch: late enough that live frames in it are fresh, early enough for the device."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

_IN_FLIGHT = 2
"""Batches on their way through the device at most: one that computes and one that is being prepared."""
_SMOOTHING = 0.2
"""Weight of the newest measurement in a mean."""
_MARGIN = 0.002
"""Seconds to begin ahead of time: what a thread needs to wake up."""


class Pace:
    """Lets the model's thread form a batch just before the device is free for it.

    A device that works asynchronously takes batches faster than it finishes them. Those formed at once
    would wait there while their frames grow old (measured with batches of 100 ms and more cameras than can
    be served: 345 ms from decoding to result, with this 146; as many results per second). How long a batch
    stays in the device after it was submitted is learnt per batch size, and how long submitting takes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds."""
        self._clock = clock
        self._changed = threading.Condition()
        self._in_flight: list[tuple[int, float]] = []
        """Size and time of submission of each batch in the device, oldest first."""
        self._last_finish = 0.0
        self._stay: dict[int, float] = {}
        """Mean seconds from submission (or from the batch before it, if later) to the result, by size."""
        self._preparation = 0.0
        """Mean seconds that submitting takes."""
        self._open = False

    def wait(self) -> None:
        """Return when the next batch should be formed. The thread that submits calls this."""
        with self._changed:
            while self._in_flight and not self._open:
                wait = None
                if len(self._in_flight) < _IN_FLIGHT:
                    wait = self._free_at() - self._preparation - _MARGIN - self._clock()
                    if wait <= 0:
                        return
                self._changed.wait(wait)

    def _free_at(self) -> float:
        size, submitted = self._in_flight[0]
        stay = self._stay.get(size, 0.0)  # unknown: better too early than to leave the device idle
        return max(submitted, self._last_finish) + stay

    def submitted(self, size: int, seconds: float) -> None:
        """A batch of ``size`` frames is in the device; submitting it took ``seconds``."""
        with self._changed:
            self._preparation += _SMOOTHING * (seconds - self._preparation)
            self._in_flight.append((size, self._clock()))

    def finished(self) -> None:
        """The oldest batch is done; any thread."""
        with self._changed, suppress(IndexError):
            size, submitted = self._in_flight.pop(0)
            now = self._clock()
            stay = now - max(submitted, self._last_finish)
            self._stay[size] = self._stay.get(size, stay) * (1 - _SMOOTHING) + stay * _SMOOTHING
            self._last_finish = now
            self._changed.notify()

    def open(self) -> None:
        """Hold nobody up any more."""
        with self._changed:
            self._open = True
            self._changed.notify()
