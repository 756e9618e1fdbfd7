"""Frames of all streams, gathered into batches."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from streamseg.types import Frame, FrameBatch, FramePolicy, FramesDropped


@dataclass(slots=True)
class _Stream:
    policy: FramePolicy
    waiting: deque[Frame] = field(default_factory=deque)
    arrivals: deque[float] = field(default_factory=deque)
    """When each place in ``waiting`` was taken; a newer live frame inherits it."""
    turn: int = 0
    """Grows with every frame served: who has the lowest is next."""
    ended: bool = False

    @property
    def can_give_more(self) -> bool:
        """Whether waiting could bring another frame of this stream into the batch."""
        live_frame_waits = self.policy is FramePolicy.NEWEST_FRAME and len(self.waiting) > 0
        return not (self.ended or live_frame_waits)


class Batcher:
    """Serves every stream: a batch leaves when it is full or its oldest frame has waited enough.

    One batch holds frames of one ``group`` (input shape of the network), one frame of each stream
    in turn, so a slow camera delays nobody and a fast one crowds nobody out. A live stream has at
    most one frame waiting, the newest; a recorded one as many as its decoder may run ahead.
    Thread-safe: any thread may put, one thread takes.
    """

    def __init__(
        self,
        *,
        max_batch: int,
        max_wait: float,
        group: Callable[[Frame], Hashable],
        on_drop: Callable[[FramesDropped], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``max_wait`` is in seconds of ``clock``; ``on_drop`` hears of replaced live frames."""
        self._max_batch, self._max_wait = max_batch, max_wait
        self._group, self._on_drop, self._clock = group, on_drop, clock
        self._streams: dict[str, _Stream] = {}
        self._turn = 0
        self._changed = threading.Condition()
        self._closed = False

    def open(self, stream: str, policy: FramePolicy) -> None:
        """Expect frames of a stream (again, after a reconnect)."""
        with self._changed:
            if stream not in self._streams:
                # A newcomer takes its turn among the others instead of catching up with them.
                self._streams[stream] = _Stream(policy, turn=self._turn)

    def put(self, frame: Frame) -> None:
        """Take a frame of an open stream; never blocks."""
        with self._changed:
            stream = self._streams[frame.stream]
            replaces = stream.policy is FramePolicy.NEWEST_FRAME and len(stream.waiting) > 0
            if replaces:
                stream.waiting.clear()
            else:
                stream.arrivals.append(self._clock())
            stream.waiting.append(frame)
            self._changed.notify()
        if replaces:
            self._on_drop(FramesDropped(frame.stream, "superseded", 1))

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
        with self._changed:
            while True:
                waiting = [s for s in self._streams.values() if s.waiting]
                if not waiting and self._closed:
                    return None
                if not waiting:
                    self._changed.wait()
                    continue
                patience = min(s.arrivals[0] for s in waiting) + self._max_wait - self._clock()
                if patience <= 0 or self._closed or self._is_complete():
                    return self._take(waiting)
                self._changed.wait(patience)

    def _is_complete(self) -> bool:
        """Whether the batch is full, or nobody is left to wait for."""
        streams = self._streams.values()
        full = sum(len(s.waiting) for s in streams) >= self._max_batch
        return full or not any(s.can_give_more for s in streams)

    def _take(self, waiting: list[_Stream]) -> FrameBatch:
        oldest = min(waiting, key=lambda s: s.arrivals[0])
        group = self._group(oldest.waiting[0])
        frames: list[Frame] = []
        while len(frames) < self._max_batch:
            ready = [s for s in waiting if s.waiting and self._group(s.waiting[0]) == group]
            if not ready:
                break
            stream = min(ready, key=lambda s: s.turn)
            frames.append(stream.waiting.popleft())
            stream.arrivals.popleft()
            self._turn += 1
            stream.turn = self._turn
        self._forget_finished()
        return FrameBatch(tuple(frames))

    def _forget_finished(self) -> None:
        for name in [n for n, s in self._streams.items() if s.ended and not s.waiting]:
            del self._streams[name]
