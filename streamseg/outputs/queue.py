"""One output in a thread of its own, behind a queue that never makes the model wait.

What is bounded differs by stream. Frames of a recorded file hold their slot of the frame ring until
they are written, so the ring bounds the backlog and nothing is dropped. A live stream keeps its
newest results; the oldest ones are dropped and counted.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

from streamseg.errors import OutputError, StreamsegError
from streamseg.outputs.backlog import Close, Entry, Lane, Put
from streamseg.types import Frame, FramePolicy, FrameResult, Instances, Output, StreamInfo

logger = logging.getLogger(__name__)

PICTURE_BACKLOG = 8  # frames per live stream: 1/3 s at 25 fps, 50 MB at 1080p
RESULT_BACKLOG = 1000  # results per live stream: 40 s at 25 fps, some 20 MB with 50 masks each
_WARN_EVERY = 10.0  # seconds between two warnings of dropped results of one stream


@runtime_checkable
class PixelsOptional(Protocol):
    """An output that needs pixels but does without them for results that had to wait."""

    pixels_optional: bool


@runtime_checkable
class Patient(Protocol):
    """An output that may wait for a peer inside ``write``."""

    def hurry(self) -> None:
        """Take notice, in any thread, that the run is over: from now on waits are bounded."""


@runtime_checkable
class ReaderPaced(Protocol):
    """An output that somebody reads at leisure: it is never given up for being slow."""

    reader_paced: bool


@runtime_checkable
class Reporting(Protocol):
    """An output that publishes more of a stream than its results."""

    def report(self, stream: str, **fields: str | float) -> None:
        """Take notice, in any thread, of what only the pipeline knows (``dropped``, ``error``)."""


class OutputQueue:
    """Runs one output. None of its methods but :meth:`finish` and :meth:`abort` waits for the output.

    The first error of the output is kept in :attr:`error` and handed to ``on_error`` (called in the
    output's thread); from then on entries are discarded, which lets go of their frames.
    """

    def __init__(
        self,
        output: Output,
        *,
        on_error: Callable[[StreamsegError], None],
        name: str | None = None,
        backlog: int | None = None,
    ) -> None:
        """``backlog``: results kept per live stream, default by whether the output needs pixels."""
        self.name = name or type(output).__name__
        self.error: StreamsegError | None = None
        self.dropped: dict[str, int] = {}
        """Results of each live stream dropped because the output was too slow."""
        self.lost = 0
        """Results discarded because the output had failed."""
        self._output = output
        self._on_error = on_error
        self._optional = isinstance(output, PixelsOptional) and output.pixels_optional
        pictures = output.needs_pixels and not self._optional
        self._backlog = backlog or (PICTURE_BACKLOG if pictures else RESULT_BACKLOG)
        self._lanes: dict[str, Lane] = {}
        self._turns: deque[str] = deque()
        """Streams with entries, each once: they take turns, so that none waits behind another."""
        self._opened: set[str] = set()
        self._changed = threading.Condition()
        self._finishing = self._aborting = False
        self._handled = 0
        self._writing = False
        self._thread = threading.Thread(target=self._run, name=f"output-{self.name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Results that wait."""
        with self._changed:
            return sum(lane.puts for lane in self._lanes.values())

    def open(self, info: StreamInfo) -> None:
        """Announce a stream, or its next epoch."""
        live = info.policy is FramePolicy.NEWEST_FRAME
        lane = Lane(self._backlog, PICTURE_BACKLOG if self._optional else None) if live else Lane(None)
        with self._changed:
            lane = self._lanes.setdefault(info.stream, lane)
            self._append(info.stream, lane, info)

    def put(self, result: FrameResult, frame: Frame, instances: Instances) -> None:
        """Queue one frame's result; its stream has been opened.

        The frame is kept until it is written: always for a recorded file, whose decoder has to wait
        for the output, for a live stream only if the output draws on it.
        """
        with self._changed:
            if self.error is not None or self._aborting:
                self.lost += 1
                return
            lane = self._lanes[result.stream]
            keep = lane.limit is None or self._output.needs_pixels
            entry = Put(result, frame if keep else None, instances if self._output.needs_pixels else None)
            lane.puts += 1
            self._append(result.stream, lane, entry)
            if entry.frame is not None:
                lane.strip_oldest(entry)
            if lane.limit is not None and lane.puts > lane.limit:
                lane.drop_oldest()
                self._count_drop(result.stream, lane)

    def close(self, stream: str, *, complete: bool) -> None:
        """Finish a stream after what waits of it; not ``complete`` when its source failed.

        Nothing is to be finished of a stream that was never opened.
        """
        with self._changed:
            if (lane := self._lanes.get(stream)) is not None:
                self._append(stream, lane, Close(complete))

    def report(self, stream: str, **fields: str | float) -> None:
        """Tell the output of a stream what only the pipeline knows, if it wants to hear it."""
        if isinstance(self._output, Reporting):
            self._output.report(stream, **fields)

    def finish(self, timeout: float | None = None) -> None:
        """Write all that waits, shut the output down and return; see :attr:`error` then.

        Args:
            timeout: Seconds without progress after which the rest is given up, None for never.
        """
        if isinstance(self._output, ReaderPaced):
            timeout = None
        with self._changed:
            self._finishing = True
            self._changed.notify()
        self._hurry()
        handled = -1
        while self._thread.is_alive() and handled != self._handled:
            handled = self._handled
            self._thread.join(timeout)
        if self._thread.is_alive():
            self._fail(OutputError(f"{self.name} was stuck for {timeout:g} s"))
            self.abort(timeout=0)

    def abort(self, timeout: float = 2.0) -> None:
        """Discard what waits and close open streams as incomplete; wait ``timeout`` seconds for that."""
        with self._changed:
            self._aborting = True
            self._changed.notify()
        self._hurry()
        self._thread.join(timeout)

    def _hurry(self) -> None:
        if isinstance(self._output, Patient):
            self._output.hurry()

    def _append(self, stream: str, lane: Lane, entry: Entry) -> None:
        if not lane.entries:
            self._turns.append(stream)
        lane.entries.append(entry)
        self._changed.notify()

    def _count_drop(self, stream: str, lane: Lane) -> None:
        self.dropped[stream] = self.dropped.get(stream, 0) + 1
        if (now := time.monotonic()) - lane.warned > _WARN_EVERY:
            lane.warned = now
            logger.warning(
                "%s is too slow for stream %s: %d results dropped", self.name, stream, self.dropped[stream]
            )

    def _run(self) -> None:
        """Write until the end; then close what is still open and shut down, in this order."""
        while (turn := self._next()) is not None:
            if self.error is None:
                self._guarded(partial(self._handle, *turn))
            self._handled += 1
            self._writing = False
            del turn  # lets go of the frame before the next wait
        for stream in sorted(self._opened):
            self._guarded(partial(self._close, stream, complete=False))
        self._guarded(self._output.shutdown)

    def _next(self) -> tuple[str, Entry] | None:
        """Wait for the next entry; None when there will be none."""
        with self._changed:
            while not self._turns and not self._finishing and not self._aborting:
                self._changed.wait()
            if self._aborting:
                self._discard()
            if not self._turns:
                return None
            stream = self._turns.popleft()
            lane = self._lanes[stream]
            entry = lane.entries.popleft()
            if isinstance(entry, Put):
                lane.forget(entry)
            self._writing = isinstance(entry, Put)
            if lane.entries:
                self._turns.append(stream)
            return stream, entry

    def _handle(self, stream: str, entry: Entry) -> None:
        match entry:
            case Put(result, frame, instances):
                pixels = self._output.needs_pixels
                self._output.write(result, frame if pixels else None, instances)
            case Close(complete):
                self._close(stream, complete=complete)
            case StreamInfo():
                self._opened.add(stream)
                self._output.open(entry)

    def _close(self, stream: str, *, complete: bool) -> None:
        self._opened.discard(stream)
        self._output.close(stream, complete=complete)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except StreamsegError as error:
            self._fail(error)
        except Exception as error:  # whatever an output does, the others go on
            logger.debug("%s failed", self.name, exc_info=True)
            self._fail(OutputError(f"{self.name}: {type(error).__name__}: {error}"))

    def _fail(self, error: StreamsegError) -> None:
        with self._changed:
            if self.error is not None:
                logger.debug("%s failed again: %s", self.name, error)
                return
            self._discard()
            if self._finishing and self.lost:
                error = OutputError(f"{error}; {self.lost} results are lost")
            self.error = _without_traceback(error)
        self._on_error(error)

    def _discard(self) -> None:
        self.lost += self._writing + sum(lane.puts for lane in self._lanes.values())
        self._turns.clear()
        for lane in self._lanes.values():
            lane.entries.clear()
            lane.pictured.clear()
            lane.puts = 0


def _without_traceback(error: StreamsegError) -> StreamsegError:
    """Drop the stack of a kept error: its variables would hold a frame's ring slot for ever."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
