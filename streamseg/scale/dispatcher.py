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

from streamseg.errors import OutputError, RunError
from streamseg.runtime.build import RunPlan
from streamseg.scale.control import (
    Failed,
    Numbers,
    Opened,
    OutputFailed,
    Ready,
    Summary,
    WantedStream,
    Written,
)
from streamseg.scale.division import Division
from streamseg.scale.handle import EngineHandle, Heard
from streamseg.scale.streams import SharedStreams
from streamseg.sources import Source
from streamseg.types import StreamInfo, StreamState
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)

_STOP_SECONDS = 11.0
"""For engines to end after the user has stopped the run: each takes 10 s at most."""


class Dispatcher:
    """Gives streams to engines, hears what these tell, and starts those again that die."""

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
        self._division = Division()
        self.streams = SharedStreams(plan, self._division, since=since, opened=opened, advanced=advanced)
        self.stats = self.streams.stats
        self.error: RunError | None = None
        """Why the run cannot go on."""
        self.finishing = False
        """Whether nothing is left but files to be finished."""
        self._handles = handles
        self._stopped_at: float | None = None

    @property
    def over(self) -> bool:
        """Whether all is done, and no engine runs any more."""
        return self.ending and not any(handle.running for handle in self._handles)

    @property
    def ending(self) -> bool:
        """Whether all is done, or the run was stopped: no engine is needed any more."""
        return self.stats.over or self._stopped_at is not None

    def attend(self) -> None:
        """Do what has become due. To be called several times a second, and after news."""
        if self._stopped_at is not None:
            self._hurry(self._stopped_at)
            return
        self._look_after_engines()
        self._hand_out()
        self._end_if_over()

    def note_deaths(self) -> None:
        """Have the summary tell of engines that died."""
        for handle in self._handles:
            if handle.deaths:
                times = "once" if handle.deaths == 1 else f"{handle.deaths} times"
                self.stats.notes.append(f"{handle} died {times}, at last it {handle.fate}")

    def _look_after_engines(self) -> None:
        work_left = not self.streams.all_done
        for handle in self._handles:
            handle.kill_if_silent()
            if handle.silent:
                self.streams.silent(self.streams.held_by(handle.owner))
            if work_left and not self.finishing and not handle.done:
                self._start_if_due(handle)
        if work_left and all(handle.given_up or handle.done for handle in self._handles):
            self._restart_one_or_fail()

    def _start_if_due(self, handle: EngineHandle) -> None:
        deaths = handle.deaths
        handle.start_if_due()
        if handle.deaths > deaths:
            logger.warning("%s %s; it %s", handle, handle.fate, handle.outlook)

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
            streams = [self.streams[name] for name in sorted(wanted.get(handle.number, ()))]
            for stream in streams:
                stream.holder = handle.owner
            told = handle.handed
            handle.want([told.get(s.source.id) or s.wanted() for s in streams])

    def _end_if_over(self) -> None:
        """Nothing is left to read: let engines finish their files."""
        to_read = self.streams.to_read
        self.finishing = not to_read
        if self.finishing:
            for handle in self._handles:
                self._division.leave(handle.number)
                handle.finish()
        elif not any(stream.taken for stream in to_read):
            self.stop()

    # Streams come, change and go.

    def begin(self, source: Source, rules: StreamRules) -> None:
        """One more stream, whose id may be that of one that is over."""
        self.streams.begin(source, rules)

    def remove(self, name: str) -> None:
        """The user wants a stream no more."""
        self.streams.remove(name)

    def change(self, name: str, *, source: Source | None = None, rules: StreamRules | None = None) -> None:
        """Another source or other rules for a stream."""
        if name not in self.streams:
            return
        stream = self.streams[name]
        stream.source, stream.rules = source or stream.source, rules or stream.rules
        handle = next((handle for handle in self._handles if handle.owner == stream.holder), None)
        if handle is not None and (told := handle.handed.get(name)) is not None:
            # Epoch and files are those that it began with: the engine has it all the time.
            changed = WantedStream(stream.wanted().config, told.first_epoch, told.since)
            handle.want([changed if other.id == name else other for other in handle.handed.values()])

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
                self.streams.opened(handle.number, handle.owner, report)
            case Numbers(streams=streams, outputs_gone=gone):
                for name, numbers in streams.items():
                    self.streams.count(handle.owner, name, numbers, wanted=name in handle.handed)
                if gone:
                    self.stop()
            case Written(stream=name, numbers=numbers):
                self.streams.written(handle.owner, name, numbers, wanted=name in handle.handed)
            case OutputFailed(error=error):
                self.stats.output_errors.append(OutputError(error))
            case Failed(error=error):
                logger.error("%s: %s", handle, error)
            case Summary():
                handle.done = True

    def _engine_gone(self, handle: EngineHandle) -> None:
        self._division.leave(handle.number)
        lost = self.streams.held_by(handle.owner)
        goes_on = not handle.done and self._stopped_at is None
        if handle.ended():
            outlook = f"; it {handle.outlook}" if goes_on else ""
            logger.warning("%s %s%s; it had %s", handle, handle.fate, outlook, _listed(lost))
        for name in reversed(lost):  # each is put before all others
            if goes_on:
                self.streams.lost(name, handle.fate)
            else:
                self.streams.end(name)

    # The end.

    def stop(self) -> None:
        """The user has stopped the run, or it makes no sense any more."""
        if self._stopped_at is not None:
            return
        self._stopped_at = time.monotonic()
        for handle in self._handles:
            handle.stop()
        for name in self.streams.held_by(None):
            self.streams.end(name, StreamState.ENDED)

    def _hurry(self, stopped_at: float) -> None:
        if time.monotonic() > stopped_at + _STOP_SECONDS:
            for handle in self._handles:
                handle.kill("could not finish in time")


def _listed(streams: Sequence[str]) -> str:
    return f"the streams {', '.join(streams)}" if streams else "no stream"
