"""Frames of all streams, gathered into batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from streamseg.runtime.queues import StreamQueue, TurnOrder
from streamseg.types import LATE, SUPERSEDED, Frame, FrameBatch, FramesDropped, StreamInfo


class Batcher:
    """Serves every stream: a batch leaves when it is full or its oldest frame has waited enough.

    One batch holds frames of one ``group`` (input shape of the network), one frame of each stream
    in turn, so a slow camera delays no other and a fast one takes no turns of others. Of a live stream
    the newest frame waits (some more after a hiccup, if the model keeps up otherwise); of a recorded one
    as many as its decoder may run ahead. Thread-safe: any thread may put, one thread takes. The work of
    putting and taking a frame grows with the logarithm of the number of streams.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        max_wait: float,
        group: Callable[[StreamInfo], Hashable],
        on_drop: Callable[[FramesDropped], None],
        max_age: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``max_wait`` is in seconds of ``clock``; ``on_drop`` hears of live frames that are dropped.

        Live frames decoded more than ``max_age`` seconds ago do not enter a batch.
        """
        self._max_batch, self._max_wait, self._max_age = max_batch, max_wait, max_age
        self._group, self._on_drop, self._clock = group, on_drop, clock
        self._streams: dict[str, StreamQueue] = {}
        self._order = TurnOrder()
        self._changed = threading.Condition()
        self._closed = False

    @property
    def serves_live(self) -> bool:
        """Whether frames of a live stream are expected."""
        return self._order.live > 0

    def __len__(self) -> int:
        """Frames that wait."""
        return self._order.waiting

    def open(self, info: StreamInfo) -> None:
        """Expect frames of a stream: a new one, or the next epoch of a live one."""
        with self._changed:
            stream = self._streams.get(info.stream)
            if stream is None:
                stream = self._streams[info.stream] = StreamQueue(info.policy)
                self._order.add(stream)
            stream.reopen(self._group(info), self._clock())
            self._order.expect(stream)

    def put(self, frame: Frame) -> None:
        """Take a frame of an open stream; never blocks."""
        with self._changed:
            stream, now = self._streams[frame.stream], self._clock()
            dropped = self._order.put(stream, frame, now)
            self._changed.notify()
        if dropped:
            self._on_drop(FramesDropped(frame.stream, SUPERSEDED, dropped))

    def end(self, stream: str) -> None:
        """No more frames will come; those waiting are still served."""
        with self._changed:
            if (ended := self._streams.pop(stream, None)) is not None:
                self._order.end(ended)
            self._changed.notify()

    def close(self) -> None:
        """Serve what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def next(self) -> FrameBatch | None:
        """Wait for the next batch; None after :meth:`close` when nothing waits."""
        while True:
            with self._changed:
                if not self._wait_until_due():
                    return None
                frames, late = self._order.take(self._max_batch, not_before=self._clock() - self._max_age)
            for stream, count in late.items():
                self._on_drop(FramesDropped(stream, LATE, count))
            if frames:
                return FrameBatch(tuple(frames))

    def _wait_until_due(self) -> bool:
        """Wait for the moment a batch should leave; False when there will be none any more."""
        while True:
            if not self._order.waiting:
                if self._closed:
                    return False
                self._changed.wait()
                continue
            now, deadline = self._clock(), self._order.oldest_arrival() + self._max_wait
            if now >= deadline or self._closed or self._order.waiting >= self._max_batch:
                return True
            if not self._order.expects_any(now, deadline):
                return True
            self._changed.wait(deadline - now)
