"""One output in a thread of its own, behind a queue that never makes the model wait.

What is bounded differs by stream. Frames of a recorded file hold their slot of the frame ring until
they are written, so the ring bounds the backlog and nothing is dropped. A live stream keeps its
newest results; the oldest ones are dropped and counted.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from streamseg.errors import OutputError, OutputGoneError, StreamsegError
from streamseg.outputs.backlog import Close, Entry, Lane, Put
from streamseg.outputs.optional import CutShort, Patient, PixelsOptional, ReaderPaced, Reporting
from streamseg.types import Frame, FramePolicy, FrameResult, Instances, Output, StreamInfo

logger = logging.getLogger(__name__)

PICTURE_BACKLOG = 8  # frames per live stream: 1/3 s at 25 fps, 50 MB at 1080p
RESULT_BACKLOG = 1000  # results per live stream: 40 s at 25 fps, some 20 MB with 50 masks each
_WARN_EVERY = 10.0  # seconds between two warnings of dropped results of one stream
_POLL_SECONDS = 0.1  # how often finish looks whether its deadline came nearer
_LAST_SECONDS = 0.5  # for an output that was given up to close its files


class OutputQueue:
    """Runs one output. None of its methods but :meth:`finish` and :meth:`abort` waits for the output.

    An error ends the stream it came up in, and the whole output if it is an OutputGoneError: from
    then on entries are discarded, which lets go of their frames. Each is handed to ``on_error``
    (called in the output's thread), and the first one kept in :attr:`error`.
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
        self._gone = False
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
            lane = self._lanes[result.stream]
            if self._gone or lane.failed or self._aborting:
                self.lost += 1
                return
            keep = lane.limit is None or self._output.needs_pixels
            entry = Put(result, frame if keep else None, instances if self._output.needs_pixels else None)
            lane.puts += 1
            self._append(result.stream, lane, entry)
            if entry.frame is not None:
                lane.strip_oldest(entry)
            if lane.limit is not None and lane.puts > lane.limit:
                lane.drop_oldest()
                self._count_drop(result.stream, lane)

    def takes(self, stream: str) -> bool:
        """Whether results of a stream still find their way out."""
        with self._changed:
            lane = self._lanes.get(stream)
            return not self._gone and (lane is None or not lane.failed)

    def close(self, stream: str, *, complete: bool, cut_short: bool = False) -> None:
        """Finish a stream after what waits of it.

        Nothing is to be finished of a stream that was never opened.

        Args:
            stream: Its id.
            complete: Whether its source came to an end without failing.
            cut_short: Whether that end was the user's wish, and the source has more to give.
        """
        with self._changed:
            if (lane := self._lanes.get(stream)) is not None:
                self._append(stream, lane, Close(complete, cut_short))

    def report(self, stream: str, **fields: str | float) -> None:
        """Tell the output of a stream what only the pipeline knows, if it wants to hear it."""
        if isinstance(self._output, Reporting):
            self._output.report(stream, **fields)

    def finish(
        self, timeout: float | None = None, *, deadline: Callable[[], float] = lambda: math.inf
    ) -> None:
        """Write all that waits, shut the output down and return; see :attr:`error` then.

        Args:
            timeout: Seconds without progress after which the rest is given up, None for never.
            deadline: When the rest is given up at the latest, on the monotonic clock; may come nearer
                while we wait.
        """
        if isinstance(self._output, ReaderPaced):
            timeout, deadline = None, lambda: math.inf
        self.end()
        handled, since = self._handled, time.monotonic()
        while not self._aborting:
            self._thread.join(_POLL_SECONDS)
            if not self._thread.is_alive():
                return
            now = time.monotonic()
            if self._handled != handled:
                handled, since = self._handled, now
            if timeout is not None and now >= since + timeout:
                self._give_up(f"was stuck for {timeout:g} s")
            elif now >= deadline():
                self._give_up("could not finish in time")

    def end(self) -> None:
        """No more entries will come: shut the output down behind the last one. Does not wait for that."""
        with self._changed:
            self._finishing = True
            self._changed.notify()
        self.hurry()

    def _give_up(self, why: str) -> None:
        self._fail(OutputGoneError(f"{self.name} {why}"))
        self.abort(timeout=_LAST_SECONDS)

    def abort(self, timeout: float = 2.0) -> None:
        """Discard what waits and close open streams as incomplete; wait ``timeout`` seconds for that."""
        with self._changed:
            self._aborting = True
            self._changed.notify()
        self.hurry(0.0)
        self._thread.join(timeout)

    def hurry(self, patience: float | None = None) -> None:
        """Tell an output that may wait for a peer that the run is over, see :class:`Patient`."""
        if isinstance(self._output, Patient):
            self._output.hurry(patience)

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
            if not (self._gone or self._lanes[turn[0]].failed):
                self._guarded(partial(self._handle, *turn), turn[0])
            self._handled += 1
            self._writing = False
            del turn  # lets go of the frame before the next wait
        for stream in sorted(self._opened):
            self._guarded(partial(self._close, stream, Close(complete=False)), stream)
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
            case Close():
                self._close(stream, entry)
            case StreamInfo():
                self._opened.add(stream)
                self._output.open(entry)

    def _close(self, stream: str, end: Close) -> None:
        self._opened.discard(stream)
        if end.cut_short and isinstance(self._output, CutShort):
            self._output.cut_short(stream)
        self._output.close(stream, complete=end.complete)

    def _guarded(self, step: Callable[[], None], stream: str | None = None) -> None:
        try:
            step()
        except StreamsegError as error:
            self._fail(error, stream)
        except Exception as error:  # whatever an output does, the others go on
            logger.debug("%s failed", self.name, exc_info=True)
            self._fail(OutputError(f"{self.name}: {type(error).__name__}: {error}"), stream)

    def _fail(self, error: StreamsegError, stream: str | None = None) -> None:
        with self._changed:
            lane = None if stream is None else self._lanes[stream]
            if self._gone or (lane is not None and lane.failed):
                logger.debug("%s failed again: %s", self.name, error)
                return
            self._discard(lane if not isinstance(error, OutputGoneError) else None)
            if self._finishing and self.lost:
                error = type(error)(f"{error}; {self.lost} results are lost")
            error = _without_traceback(error)
            self.error = self.error or error
        self._on_error(error)
        if lane is not None and lane.failed and stream in self._opened:
            self._guarded(partial(self._close, stream, Close(complete=False)), stream)

    def _discard(self, lane: Lane | None = None) -> None:
        """Let go of what waits, of one stream or of all, and take nothing more."""
        self.lost += self._writing
        self._writing = False
        self._gone = self._gone or lane is None
        for one in self._lanes.values() if lane is None else [lane]:
            one.failed = True
            self.lost += one.clear()
        self._turns = deque(stream for stream in self._turns if self._lanes[stream].entries)


def _without_traceback(error: StreamsegError) -> StreamsegError:
    """Drop the stack of a kept error: its variables would hold a frame's ring slot for ever."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
