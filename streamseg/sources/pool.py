"""Reads many sources at once: a decode worker process for each, and one thread that listens to all.

How a stream ends, and who decides it:

* its worker says so, at the end of a recording or on an error; or its :class:`DecoderHandle` finds the
  worker dead or silent. A recording has then ended or failed; whether a camera is tried again is decided by
  its :class:`StreamConnection`;
* :meth:`SourcePool.remove`: the stream ends without an error, its worker is killed;
* :meth:`SourcePool.stop`, or an exception in the receiver thread: all streams end, workers are asked to
  exit, and those that have not after :attr:`Timing.grace` are killed.

All ways lead through :meth:`StreamConnection.end`, which emits the last event of a stream, once.
"""

from __future__ import annotations

import logging
import math
import selectors
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from streamseg.errors import SourceError
from streamseg.sources.backoff import Backoff, Deadlines, Timing
from streamseg.sources.connection import Numbering, StreamConnection
from streamseg.sources.handle import DecoderHandle, PoolSettings
from streamseg.sources.ring import ReturnedSlots
from streamseg.sources.source import Source
from streamseg.types import EmitEvent, StreamChanged, StreamState

RECORDED_WORKERS = 4
"""Recordings read at the same time unless told otherwise: each decoder has threads of its own."""
RING_BYTES = 256 << 20
"""Largest frame ring of one stream: 8 slots up to 11 megapixels, at least 3."""

logger = logging.getLogger(__name__)


class SourcePool:
    """Opens sources and tells of them through ``emit``; a context manager that begins to read.

    ``emit`` is called from one thread, must not block and is given, for each source in order,
    StreamChanged (connecting), then StreamInfo and StreamChanged (live) at every opening, Frame,
    FramesDropped, StreamChanged at every loss, and at last exactly one StreamChanged (ended or failed).
    Frames show shared memory: reading a recording stops while ``slots`` of its frames are held, and the
    next recording waits while more than half of them are. A live source drops and counts frames instead.

    A recording fails if it could not be read to its end. A live source is waited for and reconnected
    for ever, or until its ``reconnect_attempts`` are used up. An id may be read again after its end: in its
    next epoch.
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
        backoff: Backoff | None = None,
    ) -> None:
        """Prepare; nothing is opened, and no thread or file descriptor taken, before :meth:`start`.

        ``slots`` is the number of frames per stream that may be under way (fewer where
        ``max_ring_bytes`` does not hold them, at least 3), ``max_workers`` how many recordings are
        read at the same time (4). Raises ValueError for ids that are not unique and for bad numbers.
        """
        _check_unique([source.id for source in sources])
        if slots < 1 or (max_workers is not None and max_workers < 1):
            raise ValueError(f"slots and max_workers must be at least 1, got {slots} and {max_workers}")
        self._settings = PoolSettings(
            emit=emit,
            slots=max(slots, 3),
            max_ring_bytes=max_ring_bytes,
            timing=timing or Timing(),
            backoff=backoff or Backoff(),
        )
        self._max_recorded = max_workers or RECORDED_WORKERS
        self._orders = _Orders()
        for source in sources:
            self.add(source)
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether events may still come."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to read; a second call is void. Raises OSError when no file descriptor is left."""
        if self._thread is None:
            receiver = _Receiver(self._settings, self._max_recorded, self._orders)
            self._thread = threading.Thread(target=receiver.run, name="streamseg-sources", daemon=True)
            self._thread.start()

    def add(self, source: Source) -> bool:
        """Read one more source, with an id that is not being read; False when reading is over. Any thread."""
        return self._orders.put(lambda receiver: receiver.admit(source))

    def remove(self, stream: str) -> None:
        """End a source, without an error, at once; other sources are not disturbed. Any thread."""
        self._orders.put(lambda receiver: receiver.remove(stream))

    def replace(self, source: Source) -> None:
        """Go on with other settings for the camera of the same id, in its next epoch. Any thread."""
        self._orders.put(lambda receiver: receiver.replace(source))

    def stop(self) -> None:
        """End all sources: no frame comes after this; returns within about two seconds.

        Sources still being read end without an error; workers that do not exit are killed.
        """
        self._orders.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def close(self) -> None:
        """Stop, if that was not done, and give everything back. Frames still held stay valid."""
        self.stop()

    def __enter__(self) -> SourcePool:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Orders:
    """What other threads want of the receiver thread."""

    def __init__(self) -> None:
        self.stopping = False
        self._queue: deque[Callable[[_Receiver], None]] = deque()
        self._closed = False
        self._lock = threading.Lock()
        self._wake: Callable[[], None] = lambda: None

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Call this whenever there is something new."""
        self._wake = wake

    def put(self, order: Callable[[_Receiver], None]) -> bool:
        """Give an order; False when the receiver takes no more."""
        with self._lock:
            if self._closed:
                return False
            self._queue.append(order)
        self._wake()
        return True

    def take(self) -> Iterator[Callable[[_Receiver], None]]:
        """The orders that were given since the last time."""
        while self._queue:
            yield self._queue.popleft()

    def stop(self) -> None:
        """Order the receiver to end everything."""
        self.stopping = True
        self._wake()

    def close(self, *, if_empty: bool = False) -> bool:
        """Take no more orders, but only without one waiting if ``if_empty``; returns whether that is so."""
        with self._lock:
            self._closed = self._closed or not (if_empty and self._queue)
            return self._closed


class _Receiver:
    """The thread that listens to all workers; nothing here is for other threads.

    Each turn looks at the handles alone that something happened to or that are due: it costs the same with a
    thousand streams as with one.
    """

    def __init__(self, settings: PoolSettings, max_recorded: int, orders: _Orders) -> None:
        """Take a selector and an event descriptor. Raises OSError when there is none left."""
        self._settings, self._max_recorded, self._orders = settings, max_recorded, orders
        self._returned: ReturnedSlots[tuple[DecoderHandle, int, int]] = ReturnedSlots()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._returned, selectors.EVENT_READ)
        orders.wake_by(self._returned.wake)
        self._deadlines: Deadlines[DecoderHandle] = Deadlines()
        self._waiting: deque[Source] = deque()
        """Recordings that no worker is free for."""
        self._active: dict[str, DecoderHandle] = {}
        """By stream: those being read, and cameras that are waited for."""
        self._idle: list[DecoderHandle] = []
        """For recordings, without one now."""
        self._recorded = 0
        """Handles for recordings, idle or not."""
        self._freed = False
        """Whether a recording that waits may be begun, which it could not before."""
        self._ending = False
        """Whether streams are only told that they end."""
        self._numbering: dict[str, Numbering] = {}
        """Of streams that have ended: it goes on if they come back."""

    def admit(self, source: Source) -> None:
        """Read a source: a camera at once, a recording when a worker is free."""
        if source.live and not self._ending:
            self._begin(self._new_handle(), source)
        else:
            self._waiting.append(source)
            self._freed = True

    def remove(self, stream: str) -> None:
        """End a source and its worker."""
        for source in [source for source in self._waiting if source.id == stream]:
            self._waiting.remove(source)
            self._settings.emit(StreamChanged(stream, StreamState.ENDED))
        if (handle := self._active.get(stream)) is not None:
            handle.kill_worker()
            handle.end()
            self._settle(handle)

    def replace(self, source: Source) -> None:
        """Open a camera again with other settings."""
        if (handle := self._active.get(source.id)) is not None:
            handle.replace(source)
            self._settle(handle)

    def run(self) -> None:
        """Read until nothing is left to read, or until told to stop."""
        # Workers inherit this mask: a Ctrl-C in the moment before they ignore it would kill them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        error: SourceError | None = None
        try:
            while self._goes_on():
                self._turn(self._deadlines.next())
        except Exception as failure:  # a bug here or in emit must not leave the pipeline waiting for ever
            logger.exception("reading the sources failed")
            error = SourceError(f"reading failed: {type(failure).__name__}: {failure}")
        finally:
            self._wind_down(error)

    def _goes_on(self) -> bool:
        """Do what was ordered, hand out what waits; returns whether anything is left to do."""
        while not self._orders.stopping:
            for order in self._orders.take():
                order(self)
            self._hand_out()
            if self._active or self._waiting:
                return True
            if self._orders.close(if_empty=True):
                return False
        return False

    def _turn(self, until: float) -> None:
        """Wait for something to happen, at most until then, and attend to it."""
        timeout = None if until == math.inf else max(0.0, until - time.monotonic())
        touched: dict[DecoderHandle, None] = {}
        for key, events in self._selector.select(timeout):
            if key.data is not None:
                touched[key.data] = None
                if events & selectors.EVENT_READ:
                    key.data.receive()
        for handle, job, slot in self._returned.take():
            touched[handle] = None
            handle.returned(job, slot)
        now = time.monotonic()
        for handle in self._deadlines.reached(now):
            touched[handle] = None
            handle.attend(now)
        for handle in touched:
            self._settle(handle)

    def _settle(self, handle: DecoderHandle) -> None:
        """See what became of a handle that something happened to."""
        handle.flush()
        self._deadlines.plan(handle)
        if (ended := handle.take_ended()) is not None:
            stream = ended.source.id
            self._numbering[stream] = ended.numbering
            del self._active[stream]
            if ended.source.live:
                handle.kill_worker()  # it is not used again
            else:
                self._idle.append(handle)
        self._freed = self._freed or handle.connection is None

    def _begin(self, handle: DecoderHandle, source: Source) -> None:
        settings = self._settings
        connection = StreamConnection(
            source,
            emit=settings.emit,
            backoff=settings.backoff,
            timing=settings.timing,
            after=self._numbering.get(source.id),
        )
        self._active[source.id] = handle
        handle.begin(connection)
        self._settle(handle)

    def _hand_out(self) -> None:
        """Begin the recordings that wait, as far as workers are free; without any, let workers exit."""
        if not self._freed:
            return
        self._freed = False
        while self._waiting and (handle := self._free_handle()) is not None:
            self._begin(handle, self._waiting.popleft())
        if not self._waiting:
            for handle in self._idle:
                handle.stop_worker()

    def _free_handle(self) -> DecoderHandle | None:
        """A handle for the next recording, if one may be begun now."""
        free = next((handle for handle in self._idle if handle.roomy), None)
        if free is not None:
            self._idle.remove(free)
        elif self._recorded < self._max_recorded:
            self._recorded += 1
            free = self._new_handle()
        return free

    def _new_handle(self) -> DecoderHandle:
        return DecoderHandle(self._settings, self._selector, self._returned)

    def _wind_down(self, error: SourceError | None) -> None:
        """End in order: the streams first, then the workers, by force those that do not exit."""
        handles = [*self._active.values(), *self._idle]
        try:
            self._ending = self._orders.close()
            for order in self._orders.take():
                order(self)
            for handle in handles:
                handle.end(error)
                handle.take_ended()
                handle.stop_worker()
            for source in self._waiting:
                state = StreamState.FAILED if error else StreamState.ENDED
                self._settings.emit(StreamChanged(source.id, state, error))
            deadline = time.monotonic() + self._settings.timing.grace
            while any(handle.running for handle in handles) and time.monotonic() < deadline:
                self._turn(deadline)
        finally:
            for handle in handles:
                handle.kill_worker()
            self._selector.close()
            self._returned.close()
            self._orders.wake_by(lambda: None)


def _check_unique(ids: Sequence[str]) -> None:
    twice = [stream_id for stream_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"stream ids must be unique; more than one source is called {', '.join(twice)}")
