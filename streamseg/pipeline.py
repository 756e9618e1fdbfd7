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
from types import TracebackType
from typing import Any

from streamseg.batching import Batcher
from streamseg.errors import StreamsegError
from streamseg.masks.result import frame_result
from streamseg.outputs import OutputQueue
from streamseg.sources import Source, SourceReader
from streamseg.stopping import BROKER_SECONDS, StopClock
from streamseg.summary import GIVEN_UP, StreamSummary, Summary
from streamseg.tracking import Trackers
from streamseg.types import (
    Frame,
    FrameBatch,
    FramePolicy,
    FrameResult,
    FramesDamaged,
    FramesDropped,
    Instances,
    Model,
    Output,
    SourceEvent,
    StreamEnded,
    StreamInfo,
)

logger = logging.getLogger(__name__)

_STUCK_SECONDS = 130.0
"""An output that writes nothing for this long at the end is given up; Redis alone may wait for 120 s."""


class Pipeline:
    """One run over some sources."""

    def __init__(
        self,
        sources: Sequence[Source],
        segmenter: Model,
        outputs: Sequence[Output],
        *,
        max_batch: int = 8,
        max_wait: float = 0.02,
        track: bool = True,
        observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
        known: Callable[[Frame], Instances | None] = lambda _: None,
    ) -> None:
        """``max_wait`` in seconds; ``observe`` hears of every opening and result, on our threads.

        ``known`` is asked for each frame, in order, and may have its instances from an earlier run.
        """
        self._segmenter, self._observe = segmenter, observe
        self._known = known
        self._clock = StopClock()
        self._lock = threading.Lock()
        self._first_error: BaseException | None = None
        self.summary = Summary({source.id: StreamSummary() for source in sources})
        self._trackers = Trackers() if track else None
        self._outputs = [OutputQueue(output, on_error=self._output_failed) for output in outputs]
        self._batcher = Batcher(
            max_batch=max_batch,
            max_wait=max_wait,
            group=lambda frame: segmenter.canvas(frame.height, frame.width),
            on_drop=self._on_drop,
        )
        # Two batches may wait beside the one in the network: enough that no stage starves.
        self._reader = SourceReader(sources, emit=self._on_event, slots=2 * max_batch + 4)
        self._submitted: queue.Queue[tuple[FrameBatch, Any] | None] = queue.Queue(maxsize=1)
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
        if not self.summary.streams:
            self._batcher.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self._finish(abort=kind is not None or self._first_error is not None)

    def join(self) -> None:
        """Block until every source has ended and its last result stands in the outputs' queues.

        After :meth:`stop` for a few seconds only.
        """
        for thread in self._threads:
            while thread.is_alive() and self._clock.may_compute:
                thread.join(timeout=0.2)  # a bounded wait lets Python handle signals

    def raise_first_error(self) -> None:
        """Raise what a stage broke down with, if one did."""
        if self._first_error is not None:
            raise self._first_error

    @property
    def stuck(self) -> bool:
        """Whether the model is still at work on what was given up: the process may not end by itself."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Ask the sources to end, and all to be over within 10 s. Safe in any thread.

        What was decoded is still processed, as far as there is time for it.
        """
        with self._lock:
            self._clock.stop()
            for stream in self.summary.streams.values():
                stream.cut_short = stream.cut_short or not stream.ended
        for output in self._outputs:
            output.hurry(BROKER_SECONDS)
        self._reader.stop()

    def _finish(self, *, abort: bool) -> None:
        self.join()
        self._reader.close()
        if self.stuck:
            self._give_up(Counter({name: s.waiting for name, s in self.summary.streams.items() if s.waiting}))
        for output in self._outputs:
            output.end()
        for output in self._outputs:
            if abort:
                output.abort()
            else:
                output.finish(_STUCK_SECONDS, deadline=self._clock.outputs_end)
            for stream, count in output.dropped.items():
                self.summary.streams[stream].dropped[f"by {output.name}"] += count
        self.summary.seconds = time.monotonic() - self._started

    # Source events, on the reader's thread.

    def _on_event(self, event: SourceEvent) -> None:
        match event:
            case Frame():
                with self._lock:
                    self.summary.streams[event.stream].received += 1
                if (known := self._known(event)) is None:
                    self._batcher.put(event)
                else:
                    self._deliver(event, self._tracked(event, known))
            case StreamInfo():
                self._opened(event)
            case FramesDropped():
                self._on_drop(event)
            case FramesDamaged():
                with self._lock:
                    stream = self.summary.streams[event.stream]
                    stream.lost, stream.concealed = event.lost, event.concealed
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
            recorded = stream.info is not None and stream.info.policy is FramePolicy.EVERY_FRAME
            output.close(name, complete=stream.error is None, cut_short=stream.cut_short and recorded)
        if self._trackers is not None:
            self._trackers.forget(name)
        if all_closed:
            self._batcher.close()

    # The model's thread.

    def _run_model(self) -> None:
        try:
            while (batch := self._batcher.next()) is not None:
                if not self._clock.may_submit:
                    self._give_up(Counter(frame.stream for frame in batch.frames))
                    continue
                submitted = self._segmenter.submit([frame.pixels for frame in batch.frames])
                self._submitted.put((batch, submitted))
                # Held while we wait for the next one, they could be the very slots its frames need.
                del batch, submitted
        finally:
            self._submitted.put(None)

    def _give_up(self, frames: Counter[str]) -> None:
        """Count frames, by stream, that there was no time for."""
        for stream, count in frames.items():
            self.summary.streams[stream].cut_short = True
            self._on_drop(FramesDropped(stream, GIVEN_UP, count))
            self._close_if_done(stream)

    # The collector's thread.

    def _run_collector(self) -> None:
        while (work := self._submitted.get()) is not None:
            batch, submitted = work
            for frame, instances in zip(batch.frames, self._segmenter.collect(submitted), strict=True):
                self._deliver(frame, self._tracked(frame, instances))
            # The frames' ring slots go back as soon as nothing refers to them.
            del work, batch, submitted, frame, instances

    def _tracked(self, frame: Frame, instances: Instances) -> Instances:
        if self._trackers is None:
            return instances
        return self._trackers.update(frame, instances, self.summary.streams[frame.stream].info)

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
            running = [name for name, s in self.summary.streams.items() if not s.closed]
        if running:  # at the end the summary says it
            logger.error("%s", error)
        if not any(output.takes(stream) for output in self._outputs for stream in running):
            # Nobody is left to take a result.
            self._reader.stop()
