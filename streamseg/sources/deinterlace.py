"""Whole pictures from interlaced ones, which hold two half pictures of different moments."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import av
from av.filter import Graph
from av.video.frame import VideoFrame

FILTER = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
"""One picture for each; the order of fields is what the frame says, and whole pictures pass unchanged."""
SOFTWARE_FORMATS = ("yuv", "nv", "gray", "rgb", "bgr", "gbr", "p0")
"""How the names of pixel formats begin that the filter takes: frames in a GPU's memory it does not."""

Timed = tuple[VideoFrame, int]


def deinterlaced(frames: Iterator[Timed]) -> Iterator[Timed]:
    """The same frames at the same times, from the first interlaced one on through FFmpeg's filter.

    The filter looks at the next frame as well, so frames come one later.
    """
    running: _Deinterlacer | None = None
    for frame, ticks in frames:
        if running is not None and not running.fits(frame):
            yield from running.rest()
            running = None
        if running is None and frame.interlaced_frame and frame.format.name.startswith(SOFTWARE_FORMATS):
            running = _Deinterlacer(frame)
        if running is None:
            yield frame, ticks
        else:
            yield from running.take(frame, ticks)
    if running is not None:
        yield from running.rest()


class _Deinterlacer:
    """A filter graph for frames of one size and format."""

    def __init__(self, first: VideoFrame) -> None:
        self._kind = _kind(first)
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=first.time_base
        )
        self._graph.link_nodes(source, self._graph.add(*FILTER), self._graph.add("buffersink")).configure()
        self._waiting: deque[Timed] = deque()

    def fits(self, frame: VideoFrame) -> bool:
        return _kind(frame) == self._kind

    def take(self, frame: VideoFrame, ticks: int) -> Iterator[Timed]:
        self._waiting.append((frame, ticks))
        self._graph.push(frame)
        yield from self._ready()

    def rest(self) -> Iterator[Timed]:
        """What the filter holds back."""
        self._graph.push(None)
        yield from self._ready()
        yield from self._waiting  # nothing, unless the filter kept a frame for itself
        self._waiting.clear()

    def _ready(self) -> Iterator[Timed]:
        while self._waiting:
            try:
                whole = self._graph.pull()
            except (BlockingIOError, EOFError, av.FFmpegError):
                return
            assert isinstance(whole, VideoFrame)
            given, ticks = self._waiting.popleft()
            for tag in ("colorspace", "color_range", "color_trc", "color_primaries"):
                setattr(whole, tag, getattr(given, tag))  # the graph was not told of them
            yield whole, ticks


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
