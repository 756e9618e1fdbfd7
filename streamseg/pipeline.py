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
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from streamseg.batching import Batcher
from streamseg.errors import StreamsegError
from streamseg.fanout import Outputs
from streamseg.masks.result import frame_result
from streamseg.pacing import Pace
from streamseg.sources import Retry, Source, SourceReader, Timing
from streamseg.summary import StreamSummary, Summary
from streamseg.tracking import Trackers
from streamseg.types import (
    Frame,
    FrameBatch,
    FrameResult,
    FramesDropped,
    Instances,
    Model,
    Output,
    SourceEvent,
    StreamChanged,
    StreamInfo,
    StreamState,
)

logger = logging.getLogger(__name__)


class Pipeline:
    """One run over some sources, which may change while it goes on."""

    def __init__(
        self,
        sources: Sequence[Source],
        segmenter: Model,
        outputs: Sequence[Output],
        *,
        max_batch: int = 8,
        max_wait: float = 0.02,
        max_age: float = 0.5,
        track: bool = True,
        observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
        timing: Timing | None = None,
        retry: Retry | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        ``max_wait`` and ``max_age`` are in seconds: how long a frame waits for others to share its batch,
        how old a live frame may be when its batch is formed. ``observe`` hears of every opening and
        result, on our threads. ``timing`` and ``retry`` are for the sources.
        """
        self._segmenter, self._observe = segmenter, observe
        self._lock = threading.Lock()
        self._first_error: BaseException | None = None
        self._all_closed = False
        self._sources = list(sources)
        self.summary = Summary({source.id: StreamSummary() for source in sources})
        self._trackers = Trackers(enabled=track)
        self._outputs = Outputs(outputs, on_error=self._output_failed)
        self._batcher = Batcher(
            max_batch=max_batch,
            max_wait=max_wait,
            max_age=max_age,
            group=lambda frame: segmenter.canvas(frame.height, frame.width),
            on_drop=self._on_drop,
        )
        self._pace = Pace()
        slots = 2 * max_batch + 4  # two batches may wait beside the one in the network: no stage starves
        self._reader = SourceReader(sources, emit=self._on_event, slots=slots, timing=timing, retry=retry)
        self._submitted: queue.Queue[tuple[FrameBatch, Any] | None] = queue.Queue(maxsize=1)
        self._threads = [
            threading.Thread(target=self._guarded, args=(stage,), name=stage.__name__)
            for stage in (self._run_model, self._run_collector)
        ]
        self._started = time.monotonic()

    def __enter__(self) -> Pipeline:
        self._started = time.monotonic()
        for source in self._sources:
            self._announce(source)
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

    def add(self, source: Source) -> bool:
        """Read one more source; False when the run is about to end. Any thread.

        Raises ValueError if the id is in use; it may be one that has ended in this run.
        """
        with self._lock:
            if self._all_closed:
                return False
            stream = self.summary.streams.setdefault(source.id, StreamSummary(closed=True))
            if not stream.closed:
                raise ValueError(f"stream {source.id} is still being read")
            stream.ended = stream.closed = False
            stream.error = None
        self._announce(source)
        if self._reader.add(source):
            return True
        self._ended(StreamChanged(source.id, StreamState.ENDED))
        return False

    def remove(self, stream: str) -> None:
        """End a stream; what was decoded of it is still processed, its files are finished. Any thread."""
        self._reader.remove(stream)

    def replace(self, source: Source) -> None:
        """Go on with other settings for the camera of the same id, as after a reconnect. Any thread."""
        self._announce(source)
        self._reader.replace(source)

    def _announce(self, source: Source) -> None:
        self._outputs.report(source.id, state=StreamState.CONNECTING.value, source=source.shown)

    def _finish(self, *, abort: bool) -> None:
        for thread in self._threads:
            thread.join()
        self._reader.close()
        self._outputs.finish(abort=abort)
        for output, stream, count in self._outputs.dropped():
            self.summary.streams[stream].dropped[f"by {output}"] += count
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
            case StreamChanged():
                self._changed(event)

    def _opened(self, info: StreamInfo) -> None:
        with self._lock:
            self.summary.streams[info.stream].info = info
        self._outputs.open(info)
        self._observe(info)
        self._batcher.open(info.stream, info.policy)

    def _on_drop(self, event: FramesDropped) -> None:
        """Count; the batcher's drops come on its threads."""
        with self._lock:
            self.summary.streams[event.stream].dropped[event.reason] += event.count
        self._report_drops(event.stream)
        self._close_if_done(event.stream)

    def _report_drops(self, name: str) -> None:
        with self._lock:
            before = self.summary.streams[name].dropped.total()
        self._outputs.report_drops(name, before)

    def _changed(self, event: StreamChanged) -> None:
        with self._lock:
            stream = self.summary.streams[event.stream]
            stream.state, stream.reconnects = event.state, event.reconnects
        self._outputs.report(event.stream, reconnects=event.reconnects, error=str(event.error or ""))
        if event.over:
            self._ended(event)
        else:
            self._outputs.report(event.stream, state=event.state.value)

    def _ended(self, event: StreamChanged) -> None:
        with self._lock:
            stream = self.summary.streams[event.stream]
            stream.state, stream.ended = event.state, True
            stream.error = event.error if event.state is StreamState.FAILED else None
            others_go_on = not all(s.ended for s in self.summary.streams.values())
        if stream.error is not None and others_go_on:  # at the end the summary says it
            logger.error("%s", stream.error)
        self._batcher.end(event.stream)
        self._close_if_done(event.stream)

    def _close_if_done(self, name: str) -> None:
        """Close a stream once its source has ended and its last frame has its result."""
        with self._lock:
            stream = self.summary.streams[name]
            if stream.closed or not stream.ended or stream.waiting:
                return
            stream.closed = True
            self._all_closed = all_closed = all(s.closed for s in self.summary.streams.values())
        self._outputs.report(name, state=stream.state.value)
        self._outputs.close(name, complete=stream.error is None)
        self._trackers.forget(name)
        if all_closed:
            self._batcher.close()

    # The model's thread.

    def _run_model(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                began = time.monotonic()
                submitted = self._segmenter.submit([frame.pixels for frame in batch.frames])
                self._pace.submitted(len(batch.frames), time.monotonic() - began)
                self._submitted.put((batch, submitted))
                del batch, submitted  # held while we wait, they could be the very slots the next one needs
        finally:
            self._submitted.put(None)

    def _next_batch(self) -> FrameBatch | None:
        if self._batcher.serves_live:  # results of recordings may be as old as they like
            self._pace.wait()
        return self._batcher.next()

    # The collector's thread.

    def _run_collector(self) -> None:
        while (work := self._submitted.get()) is not None:
            batch, submitted = work
            found = self._segmenter.collect(submitted)
            self._pace.finished()
            for frame, instances in zip(batch.frames, found, strict=True):
                info = self.summary.streams[frame.stream].info
                self._deliver(frame, self._trackers.update(frame, instances, info))
            del work, batch, submitted, found, frame, instances  # the frames' ring slots go back

    def _deliver(self, frame: Frame, instances: Instances) -> None:
        result = frame_result(frame, instances, model=self._segmenter.name, published=time.time())
        self._outputs.put(result, frame, instances)
        if self._outputs.dropped_any:
            self._report_drops(frame.stream)
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
            self._pace.open()
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
        if all_failed:  # nobody is left to take a result
            self._reader.stop()
