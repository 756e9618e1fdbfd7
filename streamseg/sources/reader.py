"""Reads many sources at once: one decode worker process each, one thread that listens to all."""

from __future__ import annotations

import logging
import math
import selectors
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

from streamseg.errors import SourceError
from streamseg.sources.lane import Lane, LaneSettings
from streamseg.sources.returns import Returns
from streamseg.sources.source import Source
from streamseg.sources.timing import Retry, Timing
from streamseg.types import EmitEvent, StreamEnded

RECORDED_WORKERS = 4
"""Recordings read at the same time unless told otherwise: each decoder has threads of its own."""
RING_BYTES = 256 << 20
"""Largest frame ring of one stream: 8 slots up to 11 megapixels, at least 3."""

logger = logging.getLogger(__name__)


class SourceReader:
    """Opens sources and tells of them through ``emit``; a context manager.

    ``emit`` is called from one thread, must not block and is given, for each source in order,
    StreamInfo at every opening, Frame, FramesDropped, and at last exactly one StreamEnded. Frames
    show shared memory: whoever keeps ``slots`` frames of a recording stops its reading, whoever
    keeps more than half of them keeps the next recording waiting. A live source drops and counts
    frames instead.

    A recording ends with a SourceError if it could not be read to its end. A live source that
    delivered once is reconnected for ever; one that never did ends with a SourceError.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        emit: EmitEvent,
        slots: int = 8,
        max_workers: int | None = None,
        max_ring_bytes: int = RING_BYTES,
        connect_timeout: float = 10.0,
        timing: Timing | None = None,
        retry: Retry | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        ``slots`` is the number of frames per stream that may be under way (fewer where
        ``max_ring_bytes`` does not hold them, at least 3), ``max_workers`` how many recordings are
        read at the same time (4), ``connect_timeout`` seconds until a live source that never
        delivered is given up. Raises ValueError for ids that are not unique and for bad numbers.
        """
        _check_unique([source.id for source in sources])
        if slots < 1 or (max_workers is not None and max_workers < 1):
            raise ValueError(f"slots and max_workers must be at least 1, got {slots} and {max_workers}")
        self._emit = emit
        self._returns: Returns[tuple[Lane, int, int]] = Returns()
        self._selector = selectors.DefaultSelector()
        self._timing = timing or Timing()
        self._settings = LaneSettings(
            emit=emit,
            returns=self._returns,
            selector=self._selector,
            slots=max(slots, 3),
            max_ring_bytes=max_ring_bytes,
            connect_timeout=connect_timeout,
            timing=self._timing,
            retry=retry or Retry(),
        )
        self._live = [source for source in sources if source.live]
        self._waiting = deque(source for source in sources if not source.live)
        pool = min(max_workers or RECORDED_WORKERS, len(self._waiting))
        self._pool = [Lane(self._settings) for _ in range(pool)]
        self._live_lanes = [Lane(self._settings) for _ in self._live]
        self._lanes = self._pool + self._live_lanes
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="streamseg-sources", daemon=True)

    @property
    def running(self) -> bool:
        """Whether events may still come."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End all sources: no frame comes after this; returns within about two seconds.

        Sources still being read end without an error; workers that do not go are killed.
        """
        self._stopping = True
        self._returns.ring()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def close(self) -> None:
        """Stop, if that was not done, and let go of everything. Frames still held stay valid."""
        self.stop()

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        # Workers inherit this mask: a Ctrl-C in the moment before they ignore it would kill them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        error: SourceError | None = None
        try:
            self._selector.register(self._returns, selectors.EVENT_READ)
            for lane, source in zip(self._live_lanes, self._live, strict=True):
                lane.begin(source)
            while self._busy() and not self._stopping:
                self._turn(min(lane.wake_at() for lane in self._lanes))
        except Exception as failure:  # a bug here or in emit must not leave the pipeline waiting for ever
            logger.exception("reading the sources failed")
            error = SourceError(f"reading failed: {type(failure).__name__}: {failure}")
        finally:
            self._wind_down(error)

    def _busy(self) -> bool:
        """Hand out what waits; returns whether anything is left to do."""
        for lane in self._pool:
            while self._waiting and not lane.busy and lane.roomy:
                lane.begin(self._waiting.popleft())
            if not self._waiting and not lane.busy:
                lane.stop()
        return bool(self._waiting) or any(lane.busy for lane in self._lanes)

    def _turn(self, until: float) -> None:
        """Wait for something to happen, at most until then, and attend to it."""
        timeout = None if until == math.inf else max(0.0, until - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if key.data is not None:
                key.data.receive()
        for lane, job, slot in self._returns.take():
            lane.returned(job, slot)
        for lane in self._lanes:
            lane.tick()

    def _wind_down(self, error: SourceError | None) -> None:
        """End in order: the streams first, then the workers, by force those that do not go."""
        try:
            for lane in self._lanes:
                lane.stop(error)
            while self._waiting:
                self._emit(StreamEnded(self._waiting.popleft().id, error))
            deadline = time.monotonic() + self._timing.grace
            while any(lane.running for lane in self._lanes) and time.monotonic() < deadline:
                self._turn(deadline)
        finally:
            for lane in self._lanes:
                lane.close()
            self._selector.close()


def _check_unique(ids: Sequence[str]) -> None:
    twice = [stream_id for stream_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"stream ids must be unique; more than one source is called {', '.join(twice)}")
