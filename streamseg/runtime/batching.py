"""Frames of all streams, gathered into batches."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from streamseg.types import LATE, SUPERSEDED, Frame, FrameBatch, FramePolicy, FramesDropped

_QUEUE = 12
"""Live frames that may wait together: half a second of a 25 fps camera, handed over in one moment after the
network or this machine had a hiccup. There is no need to lose all but one."""
_QUEUE_SECONDS = 0.1
"""If the oldest of them has waited for longer, it was no hiccup: the model is too slow for the stream."""
_OVERLOAD_SECONDS = 1.0
"""For so long after a frame was superseded for that, or the stream was opened (a camera hands over what
was buffered while it was examined), the newest frame alone may wait."""
_SMOOTHING = 0.1
"""Weight of the newest interval in the mean interval of a stream."""


@dataclass(slots=True)
class _Stream:
    policy: FramePolicy
    waiting: deque[Frame] = field(default_factory=deque)
    arrivals: deque[float] = field(default_factory=deque)
    """When each place in ``waiting`` was taken; a newer live frame inherits it."""
    turn: int = 0
    """One more with every frame served: who has the lowest is next."""
    ended: bool = False
    superseded_at: float = -math.inf
    """When a frame was last replaced by a newer one: the model is too slow for this stream."""
    last_arrival: float | None = None
    interval: float | None = None
    """Mean seconds between two arrivals."""

    @property
    def live(self) -> bool:
        return self.policy is FramePolicy.NEWEST_FRAME

    def rank(self) -> tuple[int, float]:
        """The lowest of those with frames waiting is next."""
        return self.turn, self.arrivals[0]

    def add(self, frame: Frame, now: float) -> int:
        """Let a frame wait; returns how many older ones of a live stream go for it."""
        self._learn_rhythm(now)
        dropped = 0
        arrival = now
        if self.live and self.waiting and self._is_too_much(now):
            arrival = self.arrivals[0]
            dropped = len(self.waiting)
            self.waiting.clear()
            self.arrivals.clear()
            self.superseded_at = now
        self.waiting.append(frame)
        self.arrivals.append(arrival)
        return dropped

    def _is_too_much(self, now: float) -> bool:
        return (
            now - self.superseded_at <= _OVERLOAD_SECONDS
            or now - self.arrivals[0] > _QUEUE_SECONDS
            or len(self.waiting) >= _QUEUE
        )

    def _learn_rhythm(self, now: float) -> None:
        last, self.last_arrival = self.last_arrival, now
        if last is None:
            return
        gap = now - last
        if self.interval is None:
            self.interval = gap
        else:  # a pause says little of the rhythm
            self.interval += _SMOOTHING * (min(gap, 4 * self.interval + 0.01) - self.interval)

    def drop_late(self, taken_before: float) -> int:
        """Drop frames decoded before ``taken_before``, in UNIX seconds; returns how many."""
        dropped = 0
        while self.live and self.waiting and self.waiting[0].time < taken_before:
            self.waiting.popleft()
            self.arrivals.popleft()
            dropped += 1
        return dropped

    def is_expected(self, now: float, deadline: float) -> bool:
        """Whether waiting until ``deadline`` could bring a frame of this stream into the batch.

        By its rhythm: a camera whose next frame is far off, or that has gone silent, holds nobody up.
        """
        if self.ended:
            return False
        if not self.live:
            return True
        if self.waiting:
            return False
        if self.last_arrival is None or self.interval is None:
            return True
        next_arrival = self.last_arrival + self.interval
        return next_arrival <= deadline and now < next_arrival + self.interval


class Batcher:
    """Serves every stream: a batch leaves when it is full or its oldest frame has waited enough.

    One batch holds frames of one ``group`` (input shape of the network), one frame of each stream
    in turn, so a slow camera delays nobody and a fast one crowds nobody out. Of a live stream the newest
    frame waits (some more after a hiccup, if the model keeps up otherwise); of a recorded one as many as
    its decoder may run ahead. Thread-safe: any thread may put, one thread takes.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        max_wait: float,
        group: Callable[[Frame], Hashable],
        on_drop: Callable[[FramesDropped], None],
        max_age: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``max_wait`` is in seconds of ``clock``; ``on_drop`` hears of live frames that are dropped.

        Live frames decoded more than ``max_age`` seconds ago, by ``wall_clock``, do not enter a batch.
        """
        self._max_batch, self._max_wait, self._max_age = max_batch, max_wait, max_age
        self._group, self._on_drop = group, on_drop
        self._clock, self._wall_clock = clock, wall_clock
        self._streams: dict[str, _Stream] = {}
        self._turn = 0
        """Of the stream served last: who has nothing waiting saves up no turns."""
        self._changed = threading.Condition()
        self._closed = False

    @property
    def serves_live(self) -> bool:
        """Whether frames of a live stream are expected."""
        with self._changed:
            return any(s.live for s in self._streams.values())

    def __len__(self) -> int:
        """Frames that wait."""
        with self._changed:
            return sum(len(stream.waiting) for stream in self._streams.values())

    def open(self, stream: str, policy: FramePolicy) -> None:
        """Expect frames of a stream (again, after a reconnect)."""
        with self._changed:
            if stream not in self._streams:
                self._streams[stream] = _Stream(policy)
            # After a reconnect it may have another frame rate; the pause was none of its rhythm.
            opened = self._streams[stream]
            opened.last_arrival = opened.interval = None
            opened.superseded_at = self._clock()

    def put(self, frame: Frame) -> None:
        """Take a frame of an open stream; never blocks."""
        with self._changed:
            stream = self._streams[frame.stream]
            if not stream.waiting:
                stream.turn = max(stream.turn, self._turn)
            dropped = stream.add(frame, self._clock())
            self._changed.notify()
        if dropped:
            self._on_drop(FramesDropped(frame.stream, SUPERSEDED, dropped))

    def end(self, stream: str) -> None:
        """No more frames will come; those waiting are still served."""
        with self._changed:
            if stream in self._streams:
                self._streams[stream].ended = True
                self._forget_finished()
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
                dropped = self._drop_late()
                batch = self._take()
            for drop in dropped:
                self._on_drop(drop)
            if batch is not None:
                return batch

    def _wait_until_due(self) -> bool:
        """Wait for the moment a batch should leave; False when there will be none any more."""
        while True:
            waiting = [s for s in self._streams.values() if s.waiting]
            if not waiting and self._closed:
                return False
            if not waiting:
                self._changed.wait()
                continue
            now = self._clock()
            deadline = min(s.arrivals[0] for s in waiting) + self._max_wait
            if now >= deadline or self._closed or self._is_complete(now, deadline):
                return True
            self._changed.wait(deadline - now)

    def _is_complete(self, now: float, deadline: float) -> bool:
        """Whether the batch is full, or nobody is left to wait for."""
        streams = self._streams.values()
        full = sum(len(s.waiting) for s in streams) >= self._max_batch
        return full or not any(s.is_expected(now, deadline) for s in streams)

    def _drop_late(self) -> list[FramesDropped]:
        taken_before = self._wall_clock() - self._max_age
        late = {name: stream.drop_late(taken_before) for name, stream in self._streams.items()}
        self._forget_finished()
        return [FramesDropped(name, LATE, count) for name, count in late.items() if count]

    def _take(self) -> FrameBatch | None:
        waiting = [s for s in self._streams.values() if s.waiting]
        if not waiting:
            return None
        # By turns also between groups: a camera of an uncommon size gets as many frames as the others.
        group = self._group(min(waiting, key=_Stream.rank).waiting[0])
        frames: list[Frame] = []
        while len(frames) < self._max_batch:
            ready = [s for s in waiting if s.waiting and self._group(s.waiting[0]) == group]
            if not ready:
                break
            stream = min(ready, key=_Stream.rank)
            frames.append(stream.waiting.popleft())
            stream.arrivals.popleft()
            self._turn = max(self._turn, stream.turn)
            stream.turn += 1
        self._forget_finished()
        return FrameBatch(tuple(frames))

    def _forget_finished(self) -> None:
        for name in [n for n, s in self._streams.items() if s.ended and not s.waiting]:
            del self._streams[name]
