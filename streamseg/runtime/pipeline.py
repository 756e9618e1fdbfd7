"""One run: from the sources' frames to the outputs' writers.

    sources -> Pipeline -> batcher -> [ device ] -> Stream.follow -> frame result -> Stream.put -> writers
               (events)    (engine: submit, wait, finish)          (deliver)

How it stops, in order: sources end or are asked to; the batcher serves what waits; the engine delivers the
last results; every output writes its backlog and finishes its files. The first error is kept and raised
at the end.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from streamseg.errors import NotOwnerError, StreamsegError
from streamseg.outputs.health import OutputHealth
from streamseg.results.frame_result import frame_result
from streamseg.runtime.aspect import shown_size
from streamseg.runtime.batching import Batcher
from streamseg.runtime.delivery import Outputs
from streamseg.runtime.engine import Engine
from streamseg.runtime.health import HealthWatch
from streamseg.runtime.shutdown import BROKER_SECONDS, ShutdownBudget
from streamseg.runtime.stats import RunStats
from streamseg.runtime.stream import Stream
from streamseg.sources import Backoff, Source, SourcePool, Timing
from streamseg.types import (
    GIVEN_UP,
    Frame,
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
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)


class Pipeline:
    """One run over some sources, which may change while it goes on."""

    def __init__(
        self,
        sources: Sequence[Source],
        model: Model[Any],
        outputs: Sequence[Output],
        *,
        max_batch: int = 8,
        max_wait: float = 0.02,
        max_age: float = 0.5,
        track: bool = True,
        rules: dict[str, StreamRules] | None = None,
        observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
        known: Callable[[Frame], Instances | None] = lambda _: None,
        timing: Timing | None = None,
        backoff: Backoff | None = None,
        meter: Meter | None = None,
        stays: bool = False,
    ) -> None:
        """Prepare; nothing is opened and no thread is started before ``with``.

        ``max_wait`` and ``max_age`` are in seconds: how long a frame waits for others to share its batch,
        how old a live frame may be when its batch is formed. ``rules`` are those of
        streams, by id: the mapping is kept and brought up to date. ``observe`` hears of every opening and
        result, on our threads. ``known`` is asked for each frame, in order, and may have its instances
        from an earlier run. ``timing`` and ``backoff`` are for the sources, ``meter`` is told of all work.
        ``stays``: streams are to be added, also when there is none left, until :meth:`release`.
        """
        self.classes = model.classes
        """Names of all that the model finds."""
        self._model_name, self._observe, self._known, self._meter = model.name, observe, known, meter
        self._track, self._stays = track, stays
        self.rules = {} if rules is None else rules
        """Of streams, by id."""
        self._budget = ShutdownBudget()
        self._outputs = Outputs(outputs, on_error=self._output_failed, meter=meter)
        self._health = HealthWatch(self._outputs, changed=self._report_outputs)
        self.stats = RunStats((source.id for source in sources), stays=stays)
        """What the run did so far."""
        self._sources = list(sources)
        self._streams = {source.id: self._stream(source.id) for source in sources}
        self._former: list[Stream] = []
        """Streams whose id was used again; their outputs may have dropped results."""
        self._batcher = Batcher(
            max_batch=max_batch,
            max_wait=max_wait,
            max_age=max_age,
            group=lambda info: model.canvas(*shown_size(info.height, info.width, info.pixel_aspect)),
            on_drop=self._frames_dropped,
        )
        # A batch in the batcher, one in the device, one being finished: no step starves.
        slots = 3 * max_batch + 4
        self._pool = SourcePool(
            sources, emit=self._on_event, slots=slots, timing=timing, backoff=backoff, stays=stays
        )
        self._engine = Engine(
            model,
            self._batcher,
            self._budget,
            max_batch=max_batch,
            deliver=self._deliver,
            give_up=lambda batch: self._give_up(Counter(frame.stream for frame in batch.frames)),
            on_breakdown=self._pool.stop,
            meter=meter,
        )
        self._started = time.monotonic()

    def __enter__(self) -> Pipeline:
        """Begin. Raises OSError when no file descriptor is left; then nothing of it goes on."""
        self._started = time.monotonic()
        self._outputs.start()
        self._health.start()
        try:
            for source in self._sources:
                self._announce(source)
            self._engine.start()
            self._pool.start()
        except BaseException:
            self._batcher.close()
            self._engine.join()
            self._outputs.finish(abort=True, deadline=self._budget.outputs_end)
            self._health.stop()
            raise
        if self.stats.over:  # there was nothing to read
            self._batcher.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self.join()
        self._pool.close()
        if self.stuck:
            self._give_up(Counter({name: s.stats.waiting for name, s in self._streams.items()}))
        abort = kind is not None or self._engine.first_error is not None
        self._outputs.finish(abort=abort, deadline=self._budget.outputs_end)
        self._health.stop()
        for stream in (*self._former, *self._streams.values()):
            for output, count in stream.drops_of_outputs():
                stream.stats.frames_dropped(FramesDropped(stream.name, f"by {output}", count))
        self.stats.seconds = time.monotonic() - self._started

    def join(self) -> None:
        """Block until every source has ended and its last result stands in the outputs' backlogs.

        After :meth:`stop` for a few seconds only.
        """
        self._engine.join()

    def queue_lengths(self) -> dict[str, int]:
        """Frames that wait for the network, results that wait for each output."""
        return {"batcher": len(self._batcher)} | self._outputs.lengths()

    def output_health(self) -> list[OutputHealth]:
        """How each output does now; any thread."""
        return self._health.now()

    def raise_first_error(self) -> None:
        """Raise what a step broke down with, if one did."""
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
        self._budget.stop()
        self.release()
        for stream in list(self._streams.values()):
            stream.stats.stop()
        self._outputs.hurry(BROKER_SECONDS)
        self._pool.stop()

    def release(self) -> None:
        """End with the last stream from now on, also if the run was to stay for more. Any thread."""
        self._pool.release()
        if self.stats.release():
            self._batcher.close()

    def add(self, source: Source) -> bool:
        """Read one more source; False when the run is about to end. Any thread.

        Raises ValueError if the id is in use; it may be one that has ended in this run.
        """
        if self.stats.admit(source.id) is None:
            return False
        if (former := self._streams.get(source.id)) is not None:
            self._former.append(former)
        self._streams[source.id] = self._stream(source.id)
        self._announce(source)
        if self._pool.add(source):
            return True
        self._on_event(StreamChanged(source.id, StreamState.ENDED))
        return False

    def remove(self, name: str) -> None:
        """End a stream; what was decoded of it is still processed, its files are finished. Any thread."""
        if (stream := self._streams.get(name)) is not None:
            stream.stats.stop()
        self._pool.remove(name)

    def replace(self, source: Source) -> None:
        """Go on with other settings for the camera of the same id. Any thread.

        With another ``max_fps`` its connection stays, with all else it goes on as after a reconnect.
        """
        self._outputs.report(source.id, source=source.shown)
        self._pool.replace(source)

    def set_rules(self, name: str, rules: StreamRules) -> None:
        """Other rules for a stream, from its next frame on; one that is added later begins with them."""
        self.rules[name] = rules
        if (stream := self._streams.get(name)) is not None:
            stream.set_rules(rules)

    def is_written(self, name: str) -> bool:
        """Whether a stream is over and all its files are finished."""
        return self._streams[name].written

    def is_taken(self, name: str) -> bool:
        """Whether at least one output takes the results of a stream."""
        return self._streams[name].taken

    @property
    def outputs_gone(self) -> bool:
        """Whether no output takes results any more; False if there never was one."""
        return bool(self._outputs.runners) and self._outputs.gone

    def _stream(self, name: str) -> Stream:
        rules = self.rules.get(name, StreamRules())
        return Stream(name, self.stats.streams[name], self._outputs, track=self._track, rules=rules)

    def _announce(self, source: Source) -> None:
        told: dict[str, str | float] = {"source": source.shown, "outputs": self._health.text}
        if source.claim is not None:
            told["first_epoch"] = source.claim
        self._outputs.report(source.id, state=StreamState.CONNECTING.value, **told)

    def _report_outputs(self, text: str) -> None:
        """An output is down, or up again: every stream's status says so."""
        for name in list(self._streams):
            self._outputs.report(name, outputs=text)

    def _on_event(self, event: SourceEvent) -> None:
        """What a source tells of its stream, on the thread that reads the sources."""
        stream = self._streams[event.stream]
        match event:
            case Frame():
                self._take(stream, event)
            case StreamInfo():
                stream.open(event)
                self._observe(event)
                self._batcher.open(event)
            case FramesDropped():
                self._frames_dropped(event)
            case FramesDamaged():
                stream.damaged(event)
            case StreamChanged():
                self._changed(stream, event)

    def _take(self, stream: Stream, frame: Frame) -> None:
        stream.stats.frame_came()
        if self._meter is not None:
            self._meter.stage("decode", frame.decoding)
        if (instances := self._known(frame)) is None:
            self._batcher.put(frame)
        else:
            self._deliver(frame, instances)

    def _changed(self, stream: Stream, event: StreamChanged) -> None:
        stream.report_change(event)
        over = stream.stats.changed(event)
        if event.over:
            if stream.stats.error is not None and self.stats.reading:  # at the end the summary says it
                logger.error("%s", stream.stats.error)
            self._batcher.end(stream.name)
        self._close_if(over, stream)

    def _deliver(self, frame: Frame, instances: Instances) -> None:
        """A frame's instances are there: those of a stream come in order, one at a time."""
        stream = self._streams[frame.stream]
        followed = stream.follow(frame, instances)
        result = frame_result(
            frame,
            followed.instances,
            model=self._model_name,
            published_at=time.monotonic(),
            source=stream.source,
            found=followed.found,
            watched=followed.watched,
        )
        stream.put(result, frame, followed.instances)
        self._observe(result)
        self._close_if(stream.stats.frame_delivered(followed.instances), stream)

    def _frames_dropped(self, event: FramesDropped) -> None:
        """Frames will have no result; those of the batcher are told by its threads."""
        stream = self._streams[event.stream]
        over = stream.stats.frames_dropped(event)
        stream.report_drops()
        self._close_if(over, stream)

    def _give_up(self, frames: Counter[str]) -> None:
        """Drop frames, counted by stream, that there is no time for."""
        for name, count in frames.items():
            if count:
                self._frames_dropped(FramesDropped(name, GIVEN_UP, count))

    def _close_if(self, over: bool, stream: Stream) -> None:
        if not over:
            return
        stream.close()
        if self.stats.stream_over(stream.stats):
            self._batcher.close()

    def _output_failed(self, error: StreamsegError) -> None:
        """An output cannot write one stream, or any; in one of its threads."""
        self.stats.output_errors.append(error)
        going_on = [stream for stream in list(self._streams.values()) if not stream.stats.over]
        if going_on:  # at the end the summary says it
            logger.error("%s", error)
        if isinstance(error, NotOwnerError):
            self.remove(error.stream)
        # Streams that are still to come may do better, as long as there is an output.
        if self._outputs.gone if self._stays else not any(stream.taken for stream in going_on):
            self._pool.stop()
