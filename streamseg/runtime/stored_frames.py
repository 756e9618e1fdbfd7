"""The frames of a recording once more, each with the result that an earlier run stored of it."""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from streamseg.errors import SourceError, UsageError
from streamseg.results.frame_result import published_pts
from streamseg.sources import Source, SourcePool
from streamseg.types import Frame, FrameResult, SourceEvent, StreamChanged, StreamInfo

SLOTS = 8
"""Frames that may be under way."""
_WORTH_SEEKING = 2.0
"""Seconds before the first result from which on a recording is opened again, further on."""
_ROUNDING = 1e-6
"""Seconds by which a published time may be off."""
_STEPS = 1.5
"""Of the time between the last two results: a frame that comes later than that after the last one shows
that the recording goes on."""


class StoredFrames:
    """Reads a recording and pairs its frames with stored results, by their presentation time.

        for frame, result in StoredFrames(source, results, where=path): ...

    Frames without a result are passed over: they were left out by ``--stride``, ``--start`` or ``--end``,
    or the results are partial. After the iteration the attributes say how it ended.
    """

    def __init__(self, source: Source, results: Iterable[FrameResult], *, where: Path) -> None:
        """``results``: those of one stream, in order; ``where`` they come from, for messages."""
        self._source, self._results, self._where = source, iter(results), where
        self._events: queue.SimpleQueue[SourceEvent | None] = queue.SimpleQueue()
        self._before: FrameResult | None = None
        self._step = 0.0
        """Seconds between the last two results."""
        self.info: StreamInfo | None = None
        """What is known of the recording, once there was a pair."""
        self.passed = 0
        """Frames without a result between the first and the last one that has one."""
        self.stopped = False
        """Whether :meth:`stop` was called."""
        self.goes_on = False
        """Whether the recording goes on well after the last result."""
        self.error: SourceError | None = None
        """Why the recording could not be read to its end, though all results have their frame."""

    def stop(self) -> None:
        """Let the iteration end; any thread."""
        self.stopped = True
        self._events.put(None)

    def __iter__(self) -> Iterator[tuple[Frame, FrameResult]]:
        """The pairs, in order.

        Raises:
            UsageError: A result fits no frame: it is of another recording, or of other options.
            SourceError: The recording could not be read as far as there are results.
        """
        result = next(self._results, None)
        if result is None:
            return
        with closing(self._frames(self._near(result))) as frames:
            for frame in frames:
                if result is None:
                    if self._is_beyond(frame):
                        self.goes_on = True
                        return
                    continue
                if published_pts(frame) < result.pts:
                    self.passed += self._before is not None
                    continue
                self._check(frame, result)
                yield frame, result
                self._step = result.pts - self._before.pts if self._before else 0.0
                self._before = result
                result = next(self._results, None)
        if result is not None and not self.stopped:
            raise self.error or self._surplus(result)

    def _is_beyond(self, frame: Frame) -> bool:
        assert self._before is not None
        return frame.pts > self._before.pts + _STEPS * self._step + _ROUNDING

    def _frames(self, source: Source) -> Generator[Frame]:
        """All frames that come, until the end of the recording."""
        with SourcePool([source], emit=self._events.put, slots=SLOTS):
            while not self.stopped and (event := self._events.get()) is not None:
                match event:
                    case Frame():
                        yield event
                    case StreamInfo():
                        self.info = event
                    case StreamChanged() if event.over:
                        self.error = event.error
                        return

    def _near(self, result: FrameResult) -> Source:
        """The source, opened not long before its first result."""
        if result.pts < _WORTH_SEEKING or not Path(self._source.url).is_file():
            return self._source
        with closing(self._frames(self._source)) as frames:
            first = next(frames, None)
        self._events = queue.SimpleQueue()
        if first is None or result.pts - first.pts < _WORTH_SEEKING:
            return self._source
        # ``start`` counts from the first frame; the first one selected is the one that is not before it.
        return replace(self._source, start=result.pts - first.pts - _ROUNDING)

    def _check(self, frame: Frame, result: FrameResult) -> None:
        """Make sure that a frame is the one that a result was made of. Raises UsageError."""
        if result.pts < published_pts(frame):
            raise UsageError(
                f"{self._where} has a result for {result.pts} s (frame {result.frame}), where {self._place} "
                f"has no frame, the next one is at {published_pts(frame)} s: the results are of another "
                "video, or this one is damaged"
            )
        if (result.width, result.height) != (frame.width, frame.height):
            raise UsageError(
                f"{self._where} is of pictures of {result.width}x{result.height}, {self._place} has "
                f"{frame.width}x{frame.height} (at {result.pts} s): the results are of another video"
            )

    def _surplus(self, result: FrameResult) -> UsageError:
        more = 1 + sum(1 for _ in self._results)
        return UsageError(
            f"{self._where} has {more} results more than {self._place} has frames, the first of them at "
            f"{result.pts} s: the results are of another video"
        )

    @property
    def _place(self) -> str:
        return self._source.shown
