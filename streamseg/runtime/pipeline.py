"""Sources, batcher, model, tracker and outputs, wired together: the only file that knows them all.

Three threads work at once: the reader's (frames come in), and the engine's two (a batch goes to the
device; masks come out and go to the outputs' queues). How it stops, in order: sources end or
are asked to; the batcher serves what waits; the collector hands the last results on; every output
drains its queue and finishes its files. The first error is kept and raised at the end.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from streamseg.errors import StreamsegError
from streamseg.results.frame_result import frame_result
from streamseg.runtime.batching import Batcher
from streamseg.runtime.engine import Engine
from streamseg.runtime.fanout import Outputs
from streamseg.runtime.ledger import Ledger
from streamseg.runtime.shutdown import BROKER_SECONDS, StopClock
from streamseg.runtime.stats import Summary
from streamseg.runtime.tracking import Trackers
from streamseg.sources import Retry, Source, SourceReader, Timing
from streamseg.types import (
    GIVEN_UP,
    Frame,
    FramePolicy,
    FrameResult,
    FramesDamaged,
    FramesDropped,
    Instances,
    Meter,
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
        known: Callable[[Frame], Instances | None] = lambda _: None,
        timing: Timing | None = None,
        retry: Retry | None = None,
        meter: Meter | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        ``max_wait`` and ``max_age`` are in seconds: how long a frame waits for others to share its batch,
        how old a live frame may be when its batch is formed. ``observe`` hears of every opening and
        result, on our threads. ``known`` is asked for each frame, in order, and may have its instances
        from an earlier run. ``timing`` and ``retry`` are for the sources, ``meter`` is told of all work.
        """
        self._segmenter, self._observe, self._known, self._meter = segmenter, observe, known, meter
        self._sources = list(sources)
        self._ledger = Ledger(source.id for source in sources)
        self._clock = StopClock()
        self._trackers = Trackers(enabled=track)
        self._outputs = Outputs(outputs, on_error=self._output_failed, meter=meter)
        self._batcher = Batcher(
            max_batch=max_batch,
            max_wait=max_wait,
            max_age=max_age,
            group=lambda frame: segmenter.canvas(frame.height, frame.width),
            on_drop=self._on_drop,
        )
        slots = 2 * max_batch + 4  # two batches may wait beside the one in the network: no stage starves
        self._reader = SourceReader(sources, emit=self._on_event, slots=slots, timing=timing, retry=retry)
        self._engine = Engine(
            segmenter,
            self._batcher,
            self._clock,
            deliver=self._deliver,
            give_up=lambda batch: self._give_up(Counter(frame.stream for frame in batch.frames)),
            on_breakdown=self._reader.stop,
            meter=meter,
        )
        self._started = time.monotonic()

    @property
    def summary(self) -> Summary:
        """What the run did so far."""
        return self._ledger.summary

    def __enter__(self) -> Pipeline:
        self._started = time.monotonic()
        for source in self._sources:
            self._announce(source)
        self._engine.start()
        self._reader.start()
        if self._ledger.over:  # nothing to read from the beginning
            self._batcher.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self._finish(abort=kind is not None or self._engine.first_error is not None)

    def join(self) -> None:
        """Block until every source has ended and its last result stands in the outputs' queues.

        After :meth:`stop` for a few seconds only.
        """
        self._engine.join()

    def queue_lengths(self) -> dict[str, int]:
        """Frames that wait for the network, results that wait for each output."""
        return {"batcher": len(self._batcher)} | self._outputs.lengths()

    def raise_first_error(self) -> None:
        """Raise what a stage broke down with, if one did."""
        if self._engine.first_error is not None:
            raise self._engine.first_error

    @property
    def stuck(self) -> bool:
        """Whether the model is still at work on what was given up: the process may not end by itself."""
        return self._engine.busy

    def stop(self) -> None:
        """Ask the sources to end, and all to be over within 10 s. Safe in any thread.

        What was decoded is still processed, as far as there is time for it.
        """
        self._clock.stop()
        self._ledger.cut_short()
        self._outputs.hurry(BROKER_SECONDS)
        self._reader.stop()

    def add(self, source: Source) -> bool:
        """Read one more source; False when the run is about to end. Any thread.

        Raises ValueError if the id is in use; it may be one that has ended in this run.
        """
        if not self._ledger.admit(source.id):
            return False
        self._announce(source)
        if self._reader.add(source):
            return True
        self._ended(StreamChanged(source.id, StreamState.ENDED))
        return False

    def remove(self, stream: str) -> None:
        """End a stream; what was decoded of it is still processed, its files are finished. Any thread."""
        self._ledger.cut_short([stream])
        self._reader.remove(stream)

    def replace(self, source: Source) -> None:
        """Go on with other settings for the camera of the same id, as after a reconnect. Any thread."""
        self._announce(source)
        self._reader.replace(source)

    def _announce(self, source: Source) -> None:
        self._outputs.report(source.id, state=StreamState.CONNECTING.value, source=source.shown)

    def _finish(self, *, abort: bool) -> None:
        self.join()
        self._reader.close()
        if self.stuck:
            self._give_up(self._ledger.waiting())
        self._outputs.finish(abort=abort, deadline=self._clock.outputs_end)
        for output, stream, count in self._outputs.dropped():
            self._ledger.dropped(FramesDropped(stream, f"by {output}", count))
        self.summary.seconds = time.monotonic() - self._started

    # Source events, on the reader's thread.

    def _on_event(self, event: SourceEvent) -> None:
        match event:
            case Frame():
                self._take(event)
            case StreamInfo():
                self._opened(event)
            case FramesDropped():
                self._on_drop(event)
            case FramesDamaged():
                self._ledger.damaged(event)
            case StreamChanged():
                self._changed(event)

    def _take(self, frame: Frame) -> None:
        self._ledger.received(frame.stream)
        if self._meter is not None:
            self._meter.stage("decode", frame.decoding)
        if (instances := self._known(frame)) is None:
            self._batcher.put(frame)
        else:
            self._deliver(frame, instances)

    def _opened(self, info: StreamInfo) -> None:
        self._ledger.opened(info)
        self._outputs.open(info)
        self._observe(info)
        self._batcher.open(info.stream, info.policy)

    def _on_drop(self, event: FramesDropped) -> None:
        """Count; the batcher's drops come on its threads."""
        self._ledger.dropped(event)
        self._outputs.report_drops(event.stream, self._ledger.drops(event.stream))
        self._close_if_done(event.stream)

    def _changed(self, event: StreamChanged) -> None:
        self._outputs.report(event.stream, reconnects=event.reconnects, error=str(event.error or ""))
        if event.over:
            self._ended(event)
        else:
            self._ledger.changed(event)
            self._outputs.report(event.stream, state=event.state.value)

    def _ended(self, event: StreamChanged) -> None:
        stream = self._ledger.changed(event)
        if stream.error is not None and self._ledger.reading:  # at the end the summary says it
            logger.error("%s", stream.error)
        self._batcher.end(event.stream)
        self._close_if_done(event.stream)

    def _close_if_done(self, name: str) -> None:
        """Close a stream once its source has ended and its last frame has its result."""
        if (stream := self._ledger.close_if_done(name)) is None:
            return
        recorded = stream.info is not None and stream.info.policy is FramePolicy.EVERY_FRAME
        self._outputs.report(name, state=stream.state.value)
        self._outputs.close(name, complete=stream.error is None, cut_short=stream.cut_short and recorded)
        self._trackers.forget(name)
        if self._ledger.over:
            self._batcher.close()

    # Results, on the engine's threads; those from an earlier run on the reader's.

    def _give_up(self, frames: Counter[str]) -> None:
        """Count frames, by stream, that there was no time for."""
        self._ledger.given_up(frames)
        for stream, count in frames.items():
            self._on_drop(FramesDropped(stream, GIVEN_UP, count))

    def _deliver(self, frame: Frame, instances: Instances) -> None:
        instances = self._trackers.update(frame, instances, self._ledger[frame.stream].info)
        result = frame_result(frame, instances, model=self._segmenter.name, published=time.time())
        self._outputs.put(result, frame, instances)
        if self._outputs.dropped_any:
            self._outputs.report_drops(frame.stream, self._ledger.drops(frame.stream))
        self._observe(result)
        self._ledger.delivered(frame.stream, instances)
        self._close_if_done(frame.stream)

    def _output_failed(self, error: StreamsegError) -> None:
        running = self._ledger.output_failed(error)
        if running:  # at the end the summary says it
            logger.error("%s", error)
        if not self._outputs.take_any(running):  # nobody is left to take a result
            self._reader.stop()
