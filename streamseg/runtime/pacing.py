"""When to form the next batch: late enough that live frames in it are fresh, early enough for the device."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

_IN_FLIGHT = 2
"""Batches that the device may have at most: one that computes and one that waits behind it."""
_SMOOTHING = 0.2
"""Weight of the newest measurement in a mean."""
_MARGIN = 0.002
"""Seconds to begin ahead of time: what a thread needs to wake up."""


class SubmitPacer:
    """Lets the thread that submits form a batch just before the device is free for it.

    A device that works asynchronously takes batches faster than it is done with them. Those formed at once
    would wait there while their frames grow old (measured with batches of 100 ms and more cameras than can
    be served: 345 ms from decoding to result, with the pacer 146; as many results per second). How long a
    batch stays in the device after it was submitted is learnt per batch size, and how long submitting takes.
    What the host does with a batch afterwards does not count: the device is free meanwhile.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds."""
        self._clock = clock
        self._changed = threading.Condition()
        self._in_flight: deque[tuple[int, float]] = deque()
        """Size and time of submission of each batch in the device, oldest first."""
        self._last_done = 0.0
        self._stay: dict[int, float] = {}
        """Mean seconds from submission (or the end of the batch before, if later) to the end, by size."""
        self._preparation = 0.0
        """Mean seconds that submitting takes."""
        self._open = False

    def wait(self) -> None:
        """Return when the next batch should be formed. The thread that submits calls this."""
        with self._changed:
            while (seconds := self._due() - self._clock()) > 0:
                self._changed.wait(None if seconds == math.inf else seconds)

    def due(self) -> float:
        """When the next batch should be formed, in seconds of the clock; infinite until a batch is done."""
        with self._changed:
            return self._due()

    def _due(self) -> float:
        if not self._in_flight or self._open:
            return -math.inf
        if len(self._in_flight) >= _IN_FLIGHT:
            return math.inf
        size, submitted = self._in_flight[0]
        stay = self._stay.get(size, 0.0)  # unknown: better too early than to leave the device idle
        return max(submitted, self._last_done) + stay - self._preparation - _MARGIN

    def submitted(self, size: int, seconds: float) -> None:
        """A batch of ``size`` frames is in the device; submitting it took ``seconds``."""
        with self._changed:
            self._preparation += _SMOOTHING * (seconds - self._preparation)
            self._in_flight.append((size, self._clock()))

    def done(self) -> None:
        """The device is done with the oldest batch; any thread."""
        with self._changed:
            if not self._in_flight:
                return
            size, submitted = self._in_flight.popleft()
            now = self._clock()
            stay = now - max(submitted, self._last_done)
            self._stay[size] = self._stay.get(size, stay) * (1 - _SMOOTHING) + stay * _SMOOTHING
            self._last_done = now
            self._changed.notify()

    def open(self) -> None:
        """Let :meth:`wait` return at once from now on."""
        with self._changed:
            self._open = True
            self._changed.notify()
