"""Sources, batcher, model, tracker and outputs, wired together: the only file that knows them all.

Three threads work at once: the reader's (frames come in), the model's (a batch goes to the device),
the collector's (masks come out, go to the outputs' queues). How it stops, in order: sources end or
are asked to; the batcher serves what waits; the collector hands the last results on; every output
drains its queue and finishes its files. The first error is kept and raised at the end.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from streamseg.batching import Batcher
from streamseg.errors import OutputError, StreamsegError
from streamseg.inference.segmenter import Segmenter, Submitted
from streamseg.masks.result import frame_result
from streamseg.outputs import OutputQueue
from streamseg.sources import Source, SourceReader
from streamseg.tracking import Tracker
from streamseg.types import (
    Frame,
    FrameBatch,
    FrameResult,
    FramesDropped,
    Instances,
    Output,
    SourceEvent,
    StreamEnded,
    StreamInfo,
)

logger = logging.getLogger(__name__)

_STUCK_SECONDS = 12.0
"""An output that writes nothing for this long at the end is given up; Redis alone may wait for 10 s."""


@dataclass(slots=True)
class StreamSummary:
    """What became of one stream."""

    info: StreamInfo | None = None
    """Its last opening; None if it never opened."""
    received: int = 0
    results: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Frames of a live stream that were not processed, by reason."""
    error: StreamsegError | None = None
    ended: bool = False
    closed: bool = False

    @property
    def waiting(self) -> int:
        """Frames on their way through the pipeline."""
        return self.received - self.results - self.dropped["superseded"]


@dataclass(slots=True)
class Summary:
    """What a run did."""

    streams: dict[str, StreamSummary]
    labels: Counter[str] = field(default_factory=Counter)
    """Instances by class name, over all frames."""
    seconds: float = 0.0
    output_errors: list[OutputError | StreamsegError] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames with a result."""
        return sum(s.results for s in self.streams.values())

    @property
    def errors(self) -> list[StreamsegError]:
        """Everything that went wrong, sources first."""
        return [s.error for s in self.streams.values() if s.error is not None] + self.output_errors


class Pipeline:
    """One run over some sources."""

    def __init__(
        self,
        sources: Sequence[Source],
        segmenter: Segmenter,
        outputs: Sequence[Output],
        *,
        max_batch: int = 8,
        max_wait: float = 0.02,
        track: bool = True,
        observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
    ) -> None:
        """``max_wait`` in seconds; ``observe`` hears of every opening and result, on our threads."""
        self._segmenter, self._track, self._observe = segmenter, track, observe
        self._lock = threading.Lock()
        self._first_error: BaseException | None = None
        self.summary = Summary({source.id: StreamSummary() for source in sources})
        self._trackers: dict[str, tuple[int, Tracker]] = {}
        self._outputs = [OutputQueue(output, on_error=self._output_failed) for output in outputs]
        self._batcher = Batcher(
            max_batch=max_batch,
            max_wait=max_wait,
            group=lambda frame: segmenter.canvas(frame.height, frame.width),
            on_drop=self._on_drop,
        )
        # Two batches may wait beside the one in the network: enough that no stage starves.
        self._reader = SourceReader(sources, emit=self._on_event, slots=2 * max_batch + 4)
        self._submitted: queue.Queue[tuple[FrameBatch, Submitted] | None] = queue.Queue(maxsize=1)
        self._threads = [
            threading.Thread(target=self._guarded, args=(stage,), name=stage.__name__)
            for stage in (self._run_model, self._run_collector)
        ]
        self._started = time.monotonic()

    def __enter__(self) -> Pipeline:
        self._started = time.monotonic()
        for output in self._outputs:
            for stream in self.summary.streams:
                output.report(stream, state="connecting")
        for thread in self._threads:
            thread.start()
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self._finish(abort=kind is not None or self._first_error is not None)

    def join(self) -> None:
        """Block until every source has ended and its last result stands in the outputs' queues."""
        for thread in self._threads:
            while thread.is_alive():
                thread.join(timeout=0.2)  # a bounded wait lets Python handle signals

    def raise_first_error(self) -> None:
        """Raise what a stage broke down with, if one did."""
        if self._first_error is not None:
            raise self._first_error

    def stop(self) -> None:
        """Ask the sources to end; what was decoded is still processed. Safe in any thread."""
        self._reader.stop()

    def _finish(self, *, abort: bool) -> None:
        for thread in self._threads:
            thread.join()
        self._reader.close()
        for output in self._outputs:
            if abort:
                output.abort()
            else:
                output.finish(timeout=_STUCK_SECONDS)
            for stream, count in output.dropped.items():
                self.summary.streams[stream].dropped[f"by {output.name}"] += count
        self.summary.seconds = time.monotonic() - self._started

    # Source events, on the reader's thread.

    def _on_event(self, event: SourceEvent) -> None:
        match event:
            case Frame():
                with self._lock:
                    self.summary.streams[event.stream].received += 1
                self._batcher.put(event)
            case StreamInfo():
                self._opened(event)
            case FramesDropped():
                self._on_drop(event)
            case StreamEnded():
                self._ended(event)

    def _opened(self, info: StreamInfo) -> None:
        with self._lock:
            self.summary.streams[info.stream].info = info
        for output in self._outputs:
            output.open(info)
        self._observe(info)
        self._batcher.open(info.stream, info.policy)

    def _on_drop(self, event: FramesDropped) -> None:
        with self._lock:
            dropped = self.summary.streams[event.stream].dropped
            dropped[event.reason] += event.count
        for output in self._outputs:
            output.report(event.stream, dropped=dropped.total())

    def _ended(self, event: StreamEnded) -> None:
        with self._lock:
            stream = self.summary.streams[event.stream]
            stream.ended, stream.error = True, event.error
            others_go_on = not all(s.ended for s in self.summary.streams.values())
        if event.error is not None and others_go_on:  # at the end the summary says it
            logger.error("%s", event.error)
        self._batcher.end(event.stream)
        self._close_if_done(event.stream)

    def _close_if_done(self, name: str) -> None:
        """Close a stream once its source has ended and its last frame has its result."""
        with self._lock:
            stream = self.summary.streams[name]
            if stream.closed or not stream.ended or stream.waiting:
                return
            stream.closed = True
            all_closed = all(s.closed for s in self.summary.streams.values())
        for output in self._outputs:
            if stream.error is not None:
                output.report(name, state="failed", error=str(stream.error))
            output.close(name, complete=stream.error is None)
        self._trackers.pop(name, None)
        if all_closed:
            self._batcher.close()

    # The model's thread.

    def _run_model(self) -> None:
        try:
            while (batch := self._batcher.next()) is not None:
                submitted = self._segmenter.submit([frame.pixels for frame in batch.frames])
                self._submitted.put((batch, submitted))
                # Held while we wait for the next one, they could be the very slots its frames need.
                del batch, submitted
        finally:
            self._submitted.put(None)

    # The collector's thread.

    def _run_collector(self) -> None:
        while (work := self._submitted.get()) is not None:
            batch, submitted = work
            for frame, instances in zip(batch.frames, self._segmenter.collect(submitted), strict=True):
                self._deliver(frame, self._tracked(frame, instances))
            # The frames' ring slots go back as soon as nothing refers to them.
            del work, batch, submitted, frame, instances

    def _tracked(self, frame: Frame, instances: Instances) -> Instances:
        if not self._track:
            return instances
        epoch, tracker = self._trackers.get(frame.stream, (-1, None))
        if tracker is None or epoch != frame.epoch:
            info = self.summary.streams[frame.stream].info
            tracker = Tracker(fps=info.fps if info else None)
            self._trackers[frame.stream] = frame.epoch, tracker
        return tracker.update(instances, time=frame.pts)

    def _deliver(self, frame: Frame, instances: Instances) -> None:
        result = frame_result(frame, instances, model=self._segmenter.name, published=time.time())
        for output in self._outputs:
            output.put(result, frame, instances)
        self._observe(result)
        with self._lock:
            self.summary.streams[frame.stream].results += 1
            self.summary.labels.update(instances.labels)
        self._close_if_done(frame.stream)

    # Failures.

    def _guarded(self, stage: Callable[[], None]) -> None:
        """Run a stage; if it breaks down, keep the first error and bring the others to an end."""
        try:
            stage()
        except BaseException as error:  # noqa: BLE001  raised again by raise_first_error()
            with self._lock:
                self._first_error = self._first_error or error
            self._reader.stop()
            self._batcher.close()
            self._drain()

    def _drain(self) -> None:
        """After a breakdown: let go of batches, so that the model's thread is not left waiting."""
        while threading.current_thread() is self._threads[1] and self._submitted.get() is not None:
            pass

    def _output_failed(self, error: StreamsegError) -> None:
        with self._lock:
            self.summary.output_errors.append(error)
            all_failed = len(self.summary.output_errors) >= len(self._outputs)
            running = not all(s.closed for s in self.summary.streams.values())
        if running:  # at the end the summary says it
            logger.error("%s", error)
        if all_failed:
            # Nobody is left to take a result.
            self._reader.stop()
