"""Who reads what on several engines: the decisions, all made in one thread.

    streams -> Division -> EngineHandle -> engine process     (the ordinary program)
               (who has what)   <- openings, numbers, what is written

When an engine dies, its streams go to the others at once, and it is started again: a camera goes on in its
next epoch, a recording where its NDJSON file ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from fractions import Fraction

from streamseg.errors import OutputError, RunError, SourceError
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
from streamseg.scale.handle import EngineHandle, Heard
from streamseg.scale.totals import StreamTotals
from streamseg.scale.wanted import SharedStream
from streamseg.sources import Source
from streamseg.types import FramePolicy, StreamInfo, StreamState
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)

_STOP_SECONDS = 11.0
"""For engines to end after the user has stopped the run: each takes 10 s at most."""


class Dispatcher:
    """Gives streams to engines, adds up what these tell, and starts those again that die."""

    def __init__(
        self,
        handles: Sequence[EngineHandle],
        plan: RunPlan,
        *,
        since: float | None,
        opened: Callable[[StreamInfo], None],
        advanced: Callable[[int], None],
    ) -> None:
        """Prepare; the arguments are those of :class:`streamseg.scale.pool.EnginePool`."""
        self.stats = RunStats(source.id for source in plan.sources)
        self.stats.refused = plan.refused
        self.error: RunError | None = None
        """Why the run cannot go on."""
        self.finishing = False
        """Whether nothing is left but files to be finished."""
        self._handles, self._opened, self._advanced = handles, opened, advanced
        self._resumed, self._began = since is not None, since or time.time()
        self._division = Division()
        self._streams: dict[str, SharedStream] = {}
        self._stopped_at: float | None = None
        for source in plan.sources:
            self.begin(source, plan.rules[source.id], since=since)

    @property
    def over(self) -> bool:
        """Whether all is done, and no engine runs any more."""
        nothing_left = self.stats.over or self._stopped_at is not None
        return nothing_left and not any(handle.running for handle in self._handles)

    def attend(self) -> None:
        """Do what has become due. To be called several times a second, and after news."""
        if self._stopped_at is not None:
            self._hurry(self._stopped_at)
            return
        self._look_after_engines()
        self._hand_out()
        self._end_if_over()

    def owner(self, stream: str) -> int | None:
        """Which process has a stream now; any thread."""
        known = self._streams.get(stream)
        return None if known is None else known.holder

    def note_deaths(self) -> None:
        """Have the summary tell of engines that died."""
        for handle in self._handles:
            if handle.deaths:
                times = "once" if handle.deaths == 1 else f"{handle.deaths} times"
                self.stats.notes.append(f"{handle} died {times}, at last it {handle.fate}")

    def _look_after_engines(self) -> None:
        work_left = any(not stream.done for stream in self._streams.values())
        for handle in self._handles:
            handle.kill_if_silent()
            if work_left and not self.finishing and not handle.done:
                handle.start_if_due()
        if work_left and all(handle.given_up or handle.done for handle in self._handles):
            self._restart_one_or_fail()

    def _restart_one_or_fail(self) -> None:
        """Streams are left, and nobody is there for them."""
        for handle in self._handles:
            if handle.done:
                handle.done = False
                return
        last = self._handles[-1]
        self.error = RunError(f"every engine was given up; {last} {last.fate}")
        self.stop()

    def _hand_out(self) -> None:
        if self.finishing:
            return
        wanted = self._division.divide()
        for handle in self._handles:
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
        self.finishing = not going_on
        if self.finishing:
            for handle in self._handles:
                self._division.leave(handle.number)
                handle.finish()
        elif not any(stream.taken for stream in going_on):
            self.stop()

    # Streams come, change and go.

    def begin(self, source: Source, rules: StreamRules, *, since: float | None = None) -> None:
        """One more stream, whose id may be that of one that is over."""
        former = self._streams.get(source.id)
        self._streams[source.id] = stream = SharedStream(
            source,
            rules,
            former.totals if former else StreamTotals(self.stats.streams[source.id], resumed=self._resumed),
            since,
        )
        if former is not None:  # it comes back, perhaps on another engine
            stream.epoch, stream.live = former.epoch, former.live
        self._division.add(source.id, recorded=stream.recorded)

    def remove(self, name: str) -> None:
        """The user wants a stream no more."""
        stream = self._streams[name]
        stream.removed = True
        self._division.remove(name)
        if stream.holder is None:
            self._over(name, StreamState.ENDED)

    def change(self, name: str, *, source: Source | None = None, rules: StreamRules | None = None) -> None:
        """Another source or other rules for a stream."""
        if (stream := self._streams.get(name)) is None:
            return
        stream.source, stream.rules = source or stream.source, rules or stream.rules
        handle = next((handle for handle in self._handles if handle.owner == stream.holder), None)
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

    def hear(self, event: Heard) -> None:
        """An engine says something, or is gone."""
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
                    self.stop()
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

    def stop(self) -> None:
        """The user has stopped the run, or it makes no sense any more."""
        if self._stopped_at is not None:
            return
        self._stopped_at = time.monotonic()
        for handle in self._handles:
            handle.stop()
        for name in [name for name, stream in self._streams.items() if stream.holder is None]:
            self._over(name, StreamState.ENDED)

    def _hurry(self, stopped_at: float) -> None:
        if time.monotonic() > stopped_at + _STOP_SECONDS:
            for handle in self._handles:
                handle.kill("could not finish in time")


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
