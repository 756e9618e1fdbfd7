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

import threading
from collections import Counter
from collections.abc import Sequence

from streamseg.sources.handle import PoolSettings
from streamseg.sources.receiver import Receiver, ReceiverOrders
from streamseg.sources.source import Source
from streamseg.sources.timing import Backoff, Timing
from streamseg.types import EmitEvent

RECORDED_WORKERS = 4
"""Recordings read at the same time unless told otherwise: each decoder has threads of its own."""
RING_BYTES = 256 << 20
"""Largest frame ring of one stream: 8 slots up to 11 megapixels, at least 3."""


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
        stays: bool = False,
    ) -> None:
        """Prepare; nothing is opened, and no thread or file descriptor taken, before :meth:`start`.

        ``slots`` is the number of frames per stream that may be under way (fewer where
        ``max_ring_bytes`` does not hold them, at least 3), ``max_workers`` how many recordings are
        read at the same time (4). ``stays``: sources are to be added, also when there is none left, until
        :meth:`release`. Raises ValueError for ids that are not unique and for bad numbers.
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
        self._orders = ReceiverOrders(stays=stays)
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
            receiver = Receiver(self._settings, self._max_recorded, self._orders)
            self._thread = threading.Thread(target=receiver.run, name="streamseg-sources", daemon=True)
            self._thread.start()

    def add(self, source: Source, *, epoch: int = 0) -> bool:
        """Read one more source, with an id that is not being read; False when reading is over. Any thread.

        ``epoch``: of its first opening, or a later one if the id was read here before.
        """
        return self._orders.put(lambda receiver: receiver.admit(source, epoch=epoch))

    def release(self) -> None:
        """Reading is over with the last source from now on. Any thread."""
        self._orders.release()

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


def _check_unique(ids: Sequence[str]) -> None:
    twice = [stream_id for stream_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"stream ids must be unique; more than one source is called {', '.join(twice)}")
