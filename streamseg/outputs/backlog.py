"""The results of one stream that wait for one output.

A recorded stream loses nothing: its frames hold their slots of the frame ring until they are written, so the
ring bounds the backlog. (An output of events alone keeps no frames.) A live stream keeps its newest results;
the oldest are dropped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamseg.errors import StreamsegError
from streamseg.types import (
    Frame,
    FramePolicy,
    FrameResult,
    Instances,
    Pixels,
    StreamEnd,
    StreamInfo,
    StreamWriter,
)

logger = logging.getLogger(__name__)

PICTURES_KEPT = 8
"""Frames of a live stream that wait: 1/3 s at 25 fps, 50 MB at 1080p."""
RESULTS_KEPT = 1000
"""Results of a live stream that wait: 40 s at 25 fps, some 20 MB with 50 masks each."""
_WARN_EVERY = 10.0
"""Seconds between two warnings of dropped results of one stream."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a stream may wait."""

    results: int | None
    """None: all of them."""
    pictures: int | None
    """How many of these results keep their frame and instances; None: all of them."""
    frames: bool
    """Whether frames wait with their results."""
    instances: bool
    events_only: bool = False
    """Whether results in which nothing happened are passed over."""

    @staticmethod
    def of(
        pixels: Pixels, policy: FramePolicy, *, results: int | None = None, events_only: bool = False
    ) -> Limits:
        """``results``: of a live stream, by default as ``pixels`` allows."""
        drawn = pixels is not Pixels.NEVER
        if policy is FramePolicy.EVERY_FRAME:
            # What waits of an output of events is little: it holds up neither the decoder nor other outputs.
            return Limits(
                None, None, frames=drawn or not events_only, instances=drawn, events_only=events_only
            )
        kept = results or (PICTURES_KEPT if pixels is Pixels.ALWAYS else RESULTS_KEPT)
        pictures = PICTURES_KEPT if pixels is Pixels.RECENT else None
        return Limits(kept, pictures, frames=drawn, instances=drawn, events_only=events_only)


@dataclass(slots=True)
class WaitingResult:
    """A result to write."""

    result: FrameResult
    frame: Frame | None
    instances: Instances | None


Step = StreamInfo | WaitingResult | StreamEnd
"""What the writer is called with: the stream's opening or next epoch, a result, the end."""


class StreamBacklog:
    """One stream at one output: what waits, what was dropped, whether it can still be written.

    The methods above the line are for the run, in any thread; none of them waits for the
    output. Those below it are for the :class:`~streamseg.outputs.runner.OutputRunner`, which holds the
    lock when it calls them.
    """

    def __init__(
        self,
        info: StreamInfo,
        limits: Limits,
        *,
        output: str,
        lock: threading.Condition,
        changed: Callable[[StreamBacklog], None],
    ) -> None:
        """``output`` is its name; ``changed`` is called, with the ``lock`` held, when there is more to do."""
        self.stream = info.stream
        self.dropped = 0
        """Results dropped because the output was too slow."""
        self.lost = 0
        """Results discarded because the output had failed or was aborted."""
        self.takes = True
        """Whether results are still written."""
        self.error: StreamsegError | None = None
        """The error that ended it early."""
        self.closed = False
        """Whether its end was told: no more results will come."""
        self.over = False
        """Whether its writer is closed: nothing more will happen to its files."""
        self.scheduled = False
        """Whether it waits for one of the output's threads, or one works on it."""
        self.predecessor: StreamBacklog | None = None
        """The stream of the same id that was here before, until it is over."""
        self.writer: StreamWriter | None = None
        """For the thread alone that works on it."""
        self._then: list[Callable[[], None]] = []
        self._behind = 0
        self._limits, self._output, self._lock, self._changed = limits, output, lock, changed
        self._steps: deque[Step] = deque([info])
        self._results = 0
        self._pictures: deque[WaitingResult] = deque()
        self._writing = False
        self._warned = 0.0

    def __len__(self) -> int:
        """Results that wait."""
        return self._results

    def begin_epoch(self, info: StreamInfo) -> None:
        """Say that the live source was opened again."""
        with self._lock:
            if self.takes:
                self._steps.append(info)
                self._changed(self)

    def put(self, result: FrameResult, frame: Frame, instances: Instances) -> None:
        """Hand on one frame's result.

        The frame is kept until it is written: always for a recorded stream, whose decoder has to wait
        for the output, for a live one only if the output draws on it.
        """
        if self._limits.events_only and not result.events:
            return
        with self._lock:
            if self.closed or not self.takes:
                self.lost += 1
                return
            limits = self._limits
            waiting = WaitingResult(
                result, frame if limits.frames else None, instances if limits.instances else None
            )
            self._steps.append(waiting)
            self._results += 1
            self._keep_recent_pictures(waiting)
            if limits.results is not None and self._results > limits.results:
                self._drop_oldest()
            self._changed(self)

    def close(self, end: StreamEnd, *, behind: Sequence[StreamBacklog] = ()) -> None:
        """Finish the stream after what waits of it, and after the backlogs in ``behind``.

        Only the first call counts.
        """
        with self._lock:
            if self.closed:
                return
            self.closed = True
            if self.takes:
                self._steps.append(end)
                self._behind = len(behind)
            self._changed(self)
        for other in behind:  # with no lock held: theirs is held when they call back
            other.when_over(self._one_is_over)

    def when_over(self, call: Callable[[], None]) -> None:
        """Call back when nothing more will be written of the stream; at once if that is so."""
        with self._lock:
            if not self.over:
                self._then.append(call)
                return
        call()

    def _one_is_over(self) -> None:
        with self._lock:
            self._behind -= 1
            self._changed(self)

    # For the runner.

    @property
    def failed(self) -> bool:
        """Whether an error has ended it."""
        return self.error is not None

    @property
    def has_steps(self) -> bool:
        """Whether there is something to do now."""
        return bool(self._steps) and not self.waits

    @property
    def waits(self) -> bool:
        """Whether only its end is left to be done, and backlogs of other outputs have to end first."""
        return self._behind > 0 and len(self._steps) == 1 and isinstance(self._steps[0], StreamEnd)

    def leave(self) -> None:
        """Nothing more will be written: make the calls that :meth:`when_over` was given."""
        self.over = True
        for call in self._then:
            call()
        self._then.clear()

    def take_step(self) -> Step:
        """Take out the next step, which has to be done now."""
        step = self._steps.popleft()
        if isinstance(step, WaitingResult):
            self._forget(step)
            self._writing = True
        return step

    def left_out(self) -> None:
        """The writer had no time for the result that it was given. Takes the lock itself."""
        with self._lock:
            self._count_dropped()

    def step_done(self) -> None:
        """The step that was taken out is done."""
        self._writing = False

    def discard(self, *, writing: bool) -> None:
        """Take nothing more and let go of what waits; the writer is to be closed as failed.

        ``writing``: whether a result that is being written is lost, too.
        """
        if writing and self._writing:
            self._writing = False
            self.lost += 1
        if not self.takes:
            return
        self.takes = False
        self.lost += self._results
        self._results = 0
        self._pictures.clear()
        self._steps.clear()
        self._steps.append(StreamEnd.FAILED)
        self._behind = 0

    def _keep_recent_pictures(self, newest: WaitingResult) -> None:
        if self._limits.pictures is None:
            return
        self._pictures.append(newest)
        if len(self._pictures) > self._limits.pictures:
            oldest = self._pictures.popleft()
            oldest.frame = oldest.instances = None

    def _forget(self, waiting: WaitingResult) -> None:
        self._results -= 1
        if self._pictures and self._pictures[0] is waiting:
            self._pictures.popleft()

    def _drop_oldest(self) -> None:
        """Drop the oldest result, and of the openings before it all but the last."""
        opening: StreamInfo | None = None
        while not isinstance(step := self._steps.popleft(), WaitingResult):
            assert isinstance(step, StreamInfo), "nothing is put after the end"
            opening = step
        if opening is not None:
            self._steps.appendleft(opening)
        self._forget(step)
        self._count_dropped()

    def _count_dropped(self) -> None:
        self.dropped += 1
        if (now := time.monotonic()) - self._warned > _WARN_EVERY:
            self._warned = now
            logger.warning(
                "%s is too slow for stream %s: %d results dropped", self._output, self.stream, self.dropped
            )
