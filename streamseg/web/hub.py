"""What the live page knows: written by the run's threads (or from Redis), read by the web server's.

    FrameResult, picture -> Hub -> viewers

Nothing here waits: a stream keeps its newest picture only, and pictures are made only while
somebody looks, at the size that is looked at.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamseg.types import FrameResult, StreamInfo, StreamState
from streamseg.web.history import CountHistory
from streamseg.web.metrics import OutputState

TILE, LARGE = 640, 1280
"""Width in pixels that pictures are made for: many streams side by side, one on the whole page."""
PICTURE_SECONDS = 1 / 12
"""Time between two pictures of a stream: the eye sees motion, and a page of 16 cameras stays light."""
_IDLE_SECONDS = 2.0
"""Time between two when nobody looks: a new viewer finds a picture, also of a stream that has ended."""
_RATE_SECONDS = 5.0
"""Rates and latencies are those of the last so many seconds."""

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame with the masks painted in."""

    result: FrameResult
    jpeg: bytes


@dataclass(slots=True)
class _ShownStream:
    """What is known of one stream."""

    fields: dict[str, Value] = field(default_factory=lambda: {"state": StreamState.CONNECTING.value})
    picture: Picture | None = None
    painted: float = 0.0
    """Monotonic seconds of the last picture that was made."""
    history: CountHistory = field(default_factory=CountHistory)
    newest: float | None = None
    """Monotonic seconds of the last result."""
    recent: deque[tuple[float, float]] = field(default_factory=deque)
    """Arrival in monotonic seconds and latency in milliseconds of each result of the last seconds."""

    def forget_old(self, now: float) -> None:
        while self.recent and self.recent[0][0] < now - _RATE_SECONDS:
            self.recent.popleft()


class Hub:
    """The newest state of all streams. All methods in any thread."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        outputs: Callable[[], Sequence[OutputState]] = lambda: (),
    ) -> None:
        """``clock`` is in seconds; ``outputs`` says how they do now."""
        self._clock, self._outputs = clock, outputs
        self._streams: dict[str, _ShownStream] = {}
        self._viewers: dict[object, Mapping[str, int]] = {}
        self._lock = threading.Lock()

    # Written by the run.

    def opened(self, info: StreamInfo) -> None:
        """A stream opened, or opened again."""
        self.report(info.stream, width=info.width, height=info.height, reconnects=info.reconnects)

    def report(self, stream: str, **fields: Value) -> None:
        """Set what is told of a stream: ``state``, ``dropped``, ``reconnects``, ``error``, ``source``."""
        with self._lock:
            self._stream(stream).fields.update(fields)

    def result(self, result: FrameResult) -> None:
        """A frame has its result."""
        now = self._clock()
        with self._lock:
            shown = self._stream(result.stream)
            shown.fields |= {"width": result.width, "height": result.height}
            shown.history.add((i.label for i in result.instances), time=time.time())
            shown.newest = now
            shown.recent.append((now, result.latency_ms))
            shown.forget_old(now)

    def wanted_width(self, stream: str) -> int | None:
        """Width of the picture that is due, which the caller then has to make; None: none is due."""
        now = self._clock()
        with self._lock:
            width = max((watched.get(stream, 0) for watched in self._viewers.values()), default=0)
            shown = self._stream(stream)
            if now < shown.painted + (PICTURE_SECONDS if width else _IDLE_SECONDS):
                return None
            shown.painted = now
            return width or TILE

    def show(self, picture: Picture) -> None:
        """Put up the newest picture of a stream."""
        with self._lock:
            self._stream(picture.result.stream).picture = picture

    # Read by the server.

    def watch(self, viewer: object, streams: Mapping[str, int]) -> None:
        """A viewer looks at these streams, each at this width in pixels; none: it is gone."""
        with self._lock:
            if streams:
                self._viewers[viewer] = dict(streams)
            else:
                self._viewers.pop(viewer, None)

    @property
    def watched(self) -> frozenset[str]:
        """Streams that somebody looks at."""
        with self._lock:
            return frozenset(stream for watched in self._viewers.values() for stream in watched)

    def picture(self, stream: str) -> Picture | None:
        """The newest picture of a stream."""
        with self._lock:
            shown = self._streams.get(stream)
            return None if shown is None else shown.picture

    def status(self, *, since: int = 0) -> list[dict[str, Any]]:
        """All streams by id, with rates and the counts of the seconds after ``since`` (UNIX)."""
        now, clock = self._clock(), time.time()
        with self._lock:
            return [
                _status(stream, shown, now) | {"history": shown.history.since(since, now=clock)}
                for stream, shown in sorted(self._streams.items())
            ]

    def outputs(self) -> list[dict[str, Any]]:
        """All outputs of the run: name, what is wrong with it (or None), results it did not write."""
        return [
            {"name": output.name, "trouble": output.trouble, "dropped": sum(output.dropped.values())}
            for output in self._outputs()
        ]

    def _stream(self, stream: str) -> _ShownStream:
        return self._streams.setdefault(stream, _ShownStream())


def _status(stream: str, shown: _ShownStream, now: float) -> dict[str, Any]:
    shown.forget_old(now)
    count = len(shown.recent)
    latency = sum(ms for _, ms in shown.recent) / count if count else None
    return {
        "id": stream,
        **shown.fields,
        "age": None if shown.newest is None else round(now - shown.newest, 1),
        "fps": round(count / _RATE_SECONDS, 1),
        "latency_ms": None if latency is None else round(latency, 1),
    }
