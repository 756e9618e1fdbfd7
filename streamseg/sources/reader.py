"""Reads many sources at once: one decode worker process each, one thread that listens to all."""

from __future__ import annotations

import logging
import math
import selectors
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial

from streamseg.errors import SourceError
from streamseg.sources.lane import Lane, LaneSettings
from streamseg.sources.reading import Counted, Reading
from streamseg.sources.returns import Returns
from streamseg.sources.source import Source
from streamseg.sources.timing import Retry, Timing
from streamseg.types import EmitEvent, StreamChanged, StreamState

RECORDED_WORKERS = 4
"""Recordings read at the same time unless told otherwise: each decoder has threads of its own."""
RING_BYTES = 256 << 20
"""Largest frame ring of one stream: 8 slots up to 11 megapixels, at least 3."""

logger = logging.getLogger(__name__)


class SourceReader:
    """Opens sources and tells of them through ``emit``; a context manager.

    ``emit`` is called from one thread, must not block and is given, for each source in order,
    StreamChanged (connecting), then StreamInfo and StreamChanged (live) at every opening, Frame,
    FramesDropped, StreamChanged at every loss, and at last exactly one StreamChanged (ended or failed).
    Frames show shared memory: whoever keeps ``slots`` frames of a recording stops its reading, whoever
    keeps more than half of them keeps the next recording waiting. A live source drops and counts
    frames instead.

    A recording fails if it could not be read to its end. A live source is waited for and reconnected
    for ever, or until its ``reconnect_attempts`` are used up.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        emit: EmitEvent,
        slots: int = 8,
        max_workers: int | None = None,
        max_ring_bytes: int = RING_BYTES,
        timing: Timing | None = None,
        retry: Retry | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        ``slots`` is the number of frames per stream that may be under way (fewer where
        ``max_ring_bytes`` does not hold them, at least 3), ``max_workers`` how many recordings are
        read at the same time (4). Raises ValueError for ids that are not unique and for bad numbers.
        """
        _check_unique([source.id for source in sources])
        if slots < 1 or (max_workers is not None and max_workers < 1):
            raise ValueError(f"slots and max_workers must be at least 1, got {slots} and {max_workers}")
        self._emit = emit
        self._returns: Returns[tuple[Lane, int, int]] = Returns()
        self._selector = selectors.DefaultSelector()
        self._timing = timing or Timing()
        self._retry = retry or Retry()
        self._settings = LaneSettings(
            emit=emit,
            returns=self._returns,
            selector=self._selector,
            slots=max(slots, 3),
            max_ring_bytes=max_ring_bytes,
            timing=self._timing,
            retry=self._retry,
        )
        self._max_pool = max_workers or RECORDED_WORKERS
        self._waiting: deque[Source] = deque()
        self._pool: list[Lane] = []
        self._cameras: list[Lane] = []
        self._counted: dict[str, Counted] = {}
        """Of cameras that were removed: their numbers go on if they come back."""
        self._orders: deque[Callable[[], None]] = deque(partial(self._admit, source) for source in sources)
        self._orders_lock = threading.Lock()
        self._over = self._stopping = False
        self._thread = threading.Thread(target=self._run, name="streamseg-sources", daemon=True)

    @property
    def running(self) -> bool:
        """Whether events may still come."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def add(self, source: Source) -> bool:
        """Read one more source, with an id that is not being read; False when reading is over. Any thread."""
        return self._order(partial(self._admit, source))

    def remove(self, stream: str) -> None:
        """End a source, without an error, as soon as may be; other sources take no notice. Any thread."""
        self._order(partial(self._remove, stream))

    def replace(self, source: Source) -> None:
        """Go on with other settings for the camera of the same id, in its next epoch. Any thread."""
        self._order(partial(self._replace, source))

    def _order(self, order: Callable[[], None]) -> bool:
        with self._orders_lock:
            if self._over:
                return False
            self._orders.append(order)
        self._returns.ring()
        return True

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

    # All below is the receiver thread's.

    @property
    def _lanes(self) -> list[Lane]:
        return self._pool + self._cameras

    def _admit(self, source: Source) -> None:
        if not source.live or self._over:  # once it is over those that wait are only told so
            self._waiting.append(source)
            return
        lane = Lane(self._settings)
        self._cameras.append(lane)
        after = self._counted.get(source.id)
        lane.begin(Reading(source, emit=self._emit, retry=self._retry, after=after))

    def _remove(self, stream: str) -> None:
        for source in [source for source in self._waiting if source.id == stream]:
            self._waiting.remove(source)
            self._emit(StreamChanged(stream, StreamState.ENDED))
        if (lane := self._lane_of(stream)) is not None and lane.reading is not None:
            self._counted[stream] = lane.reading.counted
            lane.cancel()

    def _replace(self, source: Source) -> None:
        if (lane := self._lane_of(source.id)) is not None:
            lane.replace(source)

    def _lane_of(self, stream: str) -> Lane | None:
        lanes = (lane for lane in self._lanes if lane.reading and lane.reading.source.id == stream)
        return next(lanes, None)

    def _run(self) -> None:
        # Workers inherit this mask: a Ctrl-C in the moment before they ignore it would kill them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        error: SourceError | None = None
        try:
            self._selector.register(self._returns, selectors.EVENT_READ)
            while self._goes_on():
                self._turn(min(lane.wake_at() for lane in self._lanes))
        except Exception as failure:  # a bug here or in emit must not leave the pipeline waiting for ever
            logger.exception("reading the sources failed")
            error = SourceError(f"reading failed: {type(failure).__name__}: {failure}")
        finally:
            self._wind_down(error)

    def _goes_on(self) -> bool:
        """Do what was ordered, hand out what waits; returns whether anything is left to do."""
        while self._orders and not self._stopping:
            self._orders.popleft()()
        if self._busy() and not self._stopping:
            return True
        with self._orders_lock:
            self._over = self._stopping or not self._orders
        return not self._over

    def _busy(self) -> bool:
        while self._waiting and (lane := self._free_lane()) is not None:
            lane.begin(Reading(self._waiting.popleft(), emit=self._emit, retry=self._retry))
        for lane in self._pool:
            if not self._waiting and not lane.busy:
                lane.stop()
        self._cameras = [lane for lane in self._cameras if lane.busy]
        return bool(self._waiting) or any(lane.busy for lane in self._lanes)

    def _free_lane(self) -> Lane | None:
        """A lane for the next recording, if one may be begun now."""
        free = [lane for lane in self._pool if not lane.busy and lane.roomy]
        if not free and len(self._pool) < self._max_pool:
            free = [Lane(self._settings)]
            self._pool += free
        return free[0] if free else None

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
            with self._orders_lock:
                self._over = True
            while self._orders:
                self._orders.popleft()()
            for lane in self._lanes:
                lane.stop(error)
            for source in self._waiting:
                state = StreamState.FAILED if error else StreamState.ENDED
                self._emit(StreamChanged(source.id, state, error))
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
