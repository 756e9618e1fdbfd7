"""Several engines on one machine, which to the program are one run.

    streams -> Division -> EngineHandle -> engine process     (the ordinary program)
               (who has what)   <- openings, numbers, what is written

One thread decides; one more for each engine listens to it. When an engine dies, its streams go to the
others at once, and it is started again: a camera goes on in its next epoch, a recording where its NDJSON file
ends. The run is over when every stream is.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType

from streamseg.errors import OutputError, RunError, SourceError, UsageError
from streamseg.outputs.health import OutputHealth
from streamseg.runtime.build import RunPlan
from streamseg.runtime.stats import RunStats
from streamseg.scale.control import (
    Failed,
    Numbers,
    Opened,
    OutputFailed,
    Ready,
    StreamNumbers,
    Summary,
    WantedStream,
    Written,
)
from streamseg.scale.division import MOST_LOSSES, Division
from streamseg.scale.handle import EngineHandle, EngineSettings, Heard
from streamseg.scale.totals import StreamTotals
from streamseg.scale.wanted import stream_config
from streamseg.sources import Source
from streamseg.types import FramePolicy, StreamInfo, StreamState
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)

_TURN_SECONDS = 0.2
_STOP_SECONDS = 11.0
"""For engines to end after the user has stopped the run: each takes 10 s at most."""


@dataclass(slots=True)
class _Stream:
    """What is known of a stream; its numbers are in the run's."""

    source: Source
    rules: StreamRules
    totals: StreamTotals
    since: float | None
    epoch: int = -1
    """The last one of which an engine told."""
    live: bool | None = None
    """As an engine found; None: it was not opened yet."""
    holder: int | None = None
    """The owner that has it, see :attr:`EngineHandle.owner`."""
    over: bool = False
    """Whether only its files are left to be finished."""
    done: bool = False
    removed: bool = False
    taken: bool = True

    @property
    def recorded(self) -> bool:
        return self.source.recorded if self.live is None else not self.live

    def wanted(self) -> WantedStream:
        config = stream_config(self.source, self.rules) | ({} if self.live is None else {"live": self.live})
        epoch = None if self.recorded or self.epoch < 0 else self.epoch + 1
        return WantedStream(config, epoch, self.since)


class EnginePool:
    """Runs the streams of a plan on several engines; to the program it is what a pipeline is."""

    def __init__(
        self,
        devices: Sequence[str],
        settings: EngineSettings,
        plan: RunPlan,
        *,
        since: float | None = None,
        check: Callable[[Ready], None] = lambda _: None,
        opened: Callable[[StreamInfo], None] = lambda _: None,
        advanced: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepare; no process is started before ``with``.

        Args:
            devices: Of the engines.
            settings: Of all of them.
            plan: The streams.
            since: When the interrupted run began that is gone on with, in UNIX seconds; None: there is none.
            check: Is told of the first engine that is ready; raises UsageError if the run cannot work with
                its model.
            opened: Hears of every opening, in the pool's thread.
            advanced: Hears how many frames have got their result.
        """
        self.stats = RunStats(source.id for source in plan.sources)
        """What the run did so far, on all engines."""
        self.stats.refused = plan.refused
        self.stuck = False
        self.rules = dict(plan.rules)
        self._check, self._opened, self._advanced = check, opened, advanced
        self._resumed, self._began = since is not None, since or time.time()
        self._events: queue.SimpleQueue[Heard | Callable[[], None]] = queue.SimpleQueue()
        self.handles = [
            EngineHandle(number, device, _threads(devices, device), settings, self._events)
            for number, device in enumerate(devices)
        ]
        """Of the engines, in the order of the devices; for reading."""
        self._division = Division()
        self._streams: dict[str, _Stream] = {}
        for source in plan.sources:
            self._begin(source, since)
        self._model: Ready | None = None
        self._error: RunError | None = None
        self._finishing = False
        self._stopped_at: float | None = None
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engines", daemon=True)

    # What a pipeline is to the program. Any thread.

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all that the model finds."""
        return self._model.classes if self._model else ()

    def __enter__(self) -> EnginePool:
        """Start the engines and wait until all are ready.

        Raises UsageError or RunError, and no engine runs, if one of them cannot.
        """
        try:
            for handle in self.handles:
                handle.start_if_due()
            while not all(handle.ready for handle in self.handles):
                event = self._events.get()
                if isinstance(event, Heard):
                    self._hear_first(event)
        except BaseException:
            self._close()
            raise
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self.join()
        self._close()
        self.stats.seconds = time.monotonic() - self._started

    def join(self) -> None:
        """Block until every stream is over and all is written; after :meth:`stop` for some seconds only."""
        while self._thread.is_alive():
            self._thread.join(timeout=0.2)  # a bounded wait lets Python handle signals

    def stop(self) -> None:
        """Ask all engines to end, within 10 s; what was decoded is still processed."""
        for stream in list(self.stats.streams.values()):
            stream.stop()
        self._events.put(self._stop)

    def add(self, source: Source) -> bool:
        """Read one more source; False when the run is about to end.

        Raises ValueError if the id is in use; it may be one that has ended in this run.
        """
        if self._finishing or self.stats.admit(source.id) is None:
            return False
        self._events.put(lambda: self._begin(source, None))
        return True

    def remove(self, name: str) -> None:
        """End a stream; what was decoded of it is still processed, its files are finished."""
        if (stats := self.stats.streams.get(name)) is not None:
            stats.stop()
        self._events.put(lambda: self._remove(name))

    def replace(self, source: Source) -> None:
        """Go on with other settings for the camera of the same id, as after a reconnect."""
        self._events.put(lambda: self._change(source.id, source=source))

    def set_rules(self, name: str, rules: StreamRules) -> None:
        """Other rules for a stream, from its next frame on; one that is added later begins with them."""
        if self.rules.get(name) != rules:
            self.rules[name] = rules
            self._events.put(lambda: self._change(name, rules=rules))

    def output_health(self) -> list[OutputHealth]:
        """How each output does over all engines: it is down where it is so on one of them."""
        found: dict[str, OutputHealth] = {}
        for handle in self.handles:
            for output in list(handle.outputs):
                before = found.get(output.name, OutputHealth(output.name))
                trouble = None if output.trouble is None else f"{handle}: {output.trouble}"
                dropped = {**before.dropped}
                for stream, count in output.dropped.items():
                    dropped[stream] = dropped.get(stream, 0) + count
                found[output.name] = OutputHealth(
                    output.name,
                    before.trouble or trouble,
                    dropped=dropped,
                    errors=before.errors + output.errors,
                )
        return list(found.values())

    def raise_first_error(self) -> None:
        """Raise what the run broke down with, if it did."""
        if self._error is not None:
            raise self._error

    def holder(self, stream: str) -> EngineHandle | None:
        """The engine that has a stream now."""
        known = self._streams.get(stream)
        return next((h for h in self.handles if known is not None and h.owner == known.holder), None)

    # The rest is for the pool's thread.

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._turn()
        except Exception as error:  # a bug here must not leave the program waiting for ever
            logger.exception("the engines cannot be looked after any more")
            self._error = RunError(f"{type(error).__name__}: {error}")
        for handle in self.handles:
            if handle.deaths:
                times = "once" if handle.deaths == 1 else f"{handle.deaths} times"
                self.stats.notes.append(f"{handle} died {times}, at last it {handle.fate}")

    def _is_over(self) -> bool:
        nothing_left = self.stats.over or self._stopped_at is not None
        return nothing_left and not any(handle.running for handle in self.handles)

    def _turn(self) -> None:
        event = None
        try:
            event = self._events.get(timeout=_TURN_SECONDS)
            while event is not None:
                if isinstance(event, Heard):
                    self._hear(event)
                else:
                    event()
                event = self._events.get_nowait()
        except queue.Empty:
            pass
        if self._stopped_at is not None:
            self._hurry(self._stopped_at)
            return
        self._look_after_engines()
        self._hand_out()
        self._end_if_over()

    def _look_after_engines(self) -> None:
        work_left = any(not stream.done for stream in self._streams.values())
        for handle in self.handles:
            handle.kill_if_silent()
            if work_left and not handle.done:
                handle.start_if_due()
        if work_left and all(handle.given_up or handle.done for handle in self.handles):
            self._restart_one_or_fail()

    def _restart_one_or_fail(self) -> None:
        """Streams are left, and nobody is there for them."""
        for handle in self.handles:
            if handle.done:
                handle.done = False
                return
        last = self.handles[-1]
        self._error = RunError(f"every engine was given up; {last} {last.fate}")
        self._stop()

    def _hand_out(self) -> None:
        if self._finishing:
            return
        wanted = self._division.divide()
        for handle in self.handles:
            if not handle.takes_streams:
                continue
            streams = [self._streams[name] for name in sorted(wanted.get(handle.number, ()))]
            for stream in streams:
                if stream.holder != handle.owner:
                    stream.holder = handle.owner
            told = handle.handed
            handle.want([told.get(s.source.id) or s.wanted() for s in streams])

    def _end_if_over(self) -> None:
        """Nothing is left to read: let engines finish their files."""
        going_on = [stream for stream in self._streams.values() if not (stream.done or stream.over)]
        self._finishing = not going_on
        if self._finishing:
            for handle in self.handles:
                self._division.leave(handle.number)
                handle.finish()
        elif not any(stream.taken for stream in going_on):
            self._stop()

    # Streams come, change and go.

    def _begin(self, source: Source, since: float | None) -> None:
        former = self._streams.get(source.id)
        self._streams[source.id] = stream = _Stream(
            source,
            self.rules.get(source.id, StreamRules()),
            former.totals if former else StreamTotals(self.stats.streams[source.id], resumed=self._resumed),
            since,
        )
        if former is not None:  # it comes back, perhaps on another engine
            stream.epoch, stream.live = former.epoch, former.live
        self._division.add(source.id, recorded=stream.recorded)

    def _remove(self, name: str) -> None:
        stream = self._streams[name]
        stream.removed = True
        self._division.remove(name)
        if stream.holder is None:
            self._over(name, StreamState.ENDED)

    def _change(self, name: str, *, source: Source | None = None, rules: StreamRules | None = None) -> None:
        if (stream := self._streams.get(name)) is None:
            return
        stream.source, stream.rules = source or stream.source, rules or stream.rules
        handle = self.holder(name)
        if handle is not None and (told := handle.handed.get(name)) is not None:
            # Epoch and files are those that it began with: the engine has it all the time.
            changed = WantedStream(stream.wanted().config, told.epoch, told.since)
            handle.want([changed if other.id == name else other for other in handle.handed.values()])

    def _over(self, name: str, state: StreamState | None = None, error: SourceError | None = None) -> None:
        """All is done for a stream."""
        stream, stats = self._streams[name], self.stats.streams[name]
        if stream.done:
            return
        stream.done = stream.over = stats.ended = True
        stream.holder = None
        stats.state, stats.error = state or stats.state, error or stats.error
        self._division.remove(name)
        self.stats.stream_over(stats)

    # What engines say.

    def _hear_first(self, event: Heard) -> None:
        """Before all are ready. Raises what keeps an engine from it."""
        match event.report:
            case Ready() as ready:
                self._hear(event)
                if self._model is None:
                    self._model = ready
                    self._check(ready)
            case Failed(error=error, exit_code=code):
                raise UsageError(error) if code == UsageError.exit_code else RunError(error)
            case None:
                event.handle.ended()
                raise RunError(f"{event.handle} {event.handle.fate} while it started")
            case _:
                self._hear(event)

    def _hear(self, event: Heard) -> None:
        handle, report = event.handle, event.report
        if event.owner != handle.owner:
            return
        if report is None:
            self._engine_gone(handle)
            return
        handle.hear(report)
        match report:
            case Ready():
                assert handle.capacity is not None
                self._division.join(handle.number, handle.capacity)
            case Opened():
                self._stream_opened(handle, report)
            case Numbers(streams=streams, outputs_gone=gone):
                for name, numbers in streams.items():
                    self._count(handle, name, numbers)
                if gone:
                    self._stop()
            case Written(stream=name, numbers=numbers):
                self._written(handle, name, numbers)
            case OutputFailed(error=error):
                self.stats.output_errors.append(OutputError(error))
            case Failed(error=error):
                logger.error("%s: %s", handle, error)
            case Summary():
                handle.done = True

    def _stream_opened(self, handle: EngineHandle, report: Opened) -> None:
        if (stream := self._streams.get(report.stream)) is None or stream.holder != handle.owner:
            return
        stream.epoch, stream.live, stream.since = report.epoch, report.live, self._began
        self._division.turned_out(report.stream, engine=handle.number, live=report.live)
        info = _info(report)
        self.stats.streams[report.stream].opened(info)
        self._opened(info)

    def _count(self, handle: EngineHandle, name: str, numbers: StreamNumbers) -> None:
        stream = self._streams.get(name)
        if stream is None:
            return
        new = stream.totals.take(handle.owner, numbers, live=not stream.recorded)
        self._advanced(new)
        if stream.holder == handle.owner:
            moving = not stream.removed and name not in handle.handed
            stream.over, stream.taken = numbers.over and not moving, numbers.taken

    def _written(self, handle: EngineHandle, name: str, numbers: StreamNumbers | None) -> None:
        stream = self._streams.get(name)
        if stream is None or stream.holder != handle.owner:
            return
        if numbers is not None:
            self._count(handle, name, numbers)
        if self._division.left(name):
            stream.holder, stream.since = None, self._began
        else:
            self._over(name, StreamState.ENDED if numbers is None else None)

    def _engine_gone(self, handle: EngineHandle) -> None:
        owner = handle.owner
        self._division.leave(handle.number)
        handle.ended()
        lost = [name for name, stream in self._streams.items() if stream.holder == owner]
        if not handle.done:
            logger.warning("%s %s; it had the streams: %s", handle, handle.fate, ", ".join(lost) or "none")
        for name in reversed(lost):  # each is put before all others
            self._lost(name, handle)

    def _lost(self, name: str, handle: EngineHandle) -> None:
        """A stream's engine is gone without having written all of it."""
        stream = self._streams[name]
        if stream.removed or handle.done or self._stopped_at is not None:
            self._over(name)
        elif not self._division.lost(name, recorded=stream.recorded):
            text = f"{name}: {MOST_LOSSES} engines died while they read it, the last one {handle.fate}"
            self._over(name, StreamState.FAILED, SourceError(text))
        else:
            stream.holder, stream.over = None, False
            stream.since = stream.since or self._began
            stats = self.stats.streams[name]
            stats.ended, stats.state = False, StreamState.STALLED

    # The end.

    def _stop(self) -> None:
        if self._stopped_at is not None:
            return
        self._stopped_at = time.monotonic()
        for handle in self.handles:
            handle.stop()
        for name in [name for name, stream in self._streams.items() if stream.holder is None]:
            self._over(name, StreamState.ENDED)

    def _hurry(self, stopped_at: float) -> None:
        if time.monotonic() > stopped_at + _STOP_SECONDS:
            for handle in self.handles:
                handle.kill("could not finish in time")

    def _close(self) -> None:
        for handle in self.handles:
            handle.close()


def _info(report: Opened) -> StreamInfo:
    return StreamInfo(
        stream=report.stream,
        url=report.source,
        policy=FramePolicy.NEWEST_FRAME if report.live else FramePolicy.EVERY_FRAME,
        epoch=report.epoch,
        width=report.width,
        height=report.height,
        time_base=Fraction(1, 1000),
        fps=report.fps,
        frame_count=report.frame_count,
        source=report.source,
    )


def _threads(devices: Sequence[str], device: str) -> int | None:
    """Of the network: engines on the processor share its cores."""
    if device != "cpu":
        return None
    return max(1, len(os.sched_getaffinity(0)) // devices.count("cpu"))
