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
    since: float = 0.0
    """When the place of the first waiting frame was taken (a newer live frame inherits it)."""


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
        self._changed = threading.Condition()
        self._closed = False

    def open(self, stream: str, policy: FramePolicy) -> None:
        """Expect frames of a stream (again, after a reconnect)."""
        with self._changed:
            self._streams.setdefault(stream, _Stream(policy))

    def put(self, frame: Frame) -> None:
        """Take a frame of an open stream; never blocks."""
        dropped = False
        with self._changed:
            stream = self._streams[frame.stream]
            if not stream.waiting:
                stream.since = self._clock()
            elif stream.policy is FramePolicy.NEWEST_FRAME:
                stream.waiting.clear()
                dropped = True
            stream.waiting.append(frame)
            self._changed.notify()
        if dropped:
            self._on_drop(FramesDropped(frame.stream, "superseded", 1))

    def end(self, stream: str) -> None:
        """No more frames will come; those waiting are still served."""
        with self._changed:
            if stream in self._streams and not self._streams[stream].waiting:
                del self._streams[stream]
            elif stream in self._streams:
                # What waits shall not wait for company that cannot come.
                self._streams[stream].since = -float("inf")
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
                if waiting:
                    patience = min(s.since for s in waiting) + self._max_wait - self._clock()
                    if patience <= 0 or self._closed or self._is_complete(waiting):
                        return self._take(waiting)
                    self._changed.wait(patience)
                else:
                    self._changed.wait()

    def _is_complete(self, waiting: list[_Stream]) -> bool:
        if sum(len(s.waiting) for s in waiting) >= self._max_batch:
            return True
        # Every live stream has given the one frame it can give: nobody is left to wait for.
        return len(waiting) == len(self._streams) and all(
            s.policy is FramePolicy.NEWEST_FRAME for s in waiting
        )

    def _take(self, waiting: list[_Stream]) -> FrameBatch:
        waiting.sort(key=lambda s: s.since)
        group = self._group(waiting[0].waiting[0])
        frames: list[Frame] = []
        while len(frames) < self._max_batch:
            ready = [s for s in waiting if s.waiting and self._group(s.waiting[0]) == group]
            if not ready:
                break
            for stream in ready[: self._max_batch - len(frames)]:
                frames.append(stream.waiting.popleft())
                stream.since = max(stream.since, self._clock())
        return FrameBatch(tuple(frames))
