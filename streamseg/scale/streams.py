"""The streams of several engines: what is wanted of each, who has it, and what has become of it.

Which engine is to have a stream, :mod:`streamseg.scale.division` says; what is done with engines,
:mod:`streamseg.scale.dispatcher`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from fractions import Fraction

from streamseg.errors import SourceError
from streamseg.runtime.build import RunPlan
from streamseg.runtime.stats import RunStats
from streamseg.scale.control import Opened, StreamNumbers
from streamseg.scale.division import MOST_LOSSES, Division
from streamseg.scale.totals import StreamTotals
from streamseg.scale.wanted import SharedStream
from streamseg.sources import Source
from streamseg.types import FramePolicy, StreamInfo, StreamState
from streamseg.zones import StreamRules


class SharedStreams:
    """All streams of a run by id. One thread at a time, but for :meth:`owner`.

    An owner is the process of an engine, told by a number of its own.
    """

    def __init__(
        self,
        plan: RunPlan,
        division: Division,
        *,
        since: float | None,
        opened: Callable[[StreamInfo], None],
        advanced: Callable[[int], None],
    ) -> None:
        """Take the streams of ``plan``; all else as in :class:`streamseg.scale.pool.EnginePool`."""
        self.stats = RunStats(source.id for source in plan.sources)
        self.stats.refused = plan.refused
        self._division, self._opened, self._advanced = division, opened, advanced
        self._resumed, self._began = since is not None, since or time.time()
        self._streams: dict[str, SharedStream] = {}
        for source in plan.sources:
            self.begin(source, plan.rules[source.id], since=since)

    def __getitem__(self, name: str) -> SharedStream:
        return self._streams[name]

    def __contains__(self, name: str) -> bool:
        return name in self._streams

    def owner(self, name: str) -> int | None:
        """Who has a stream now; any thread."""
        known = self._streams.get(name)
        return None if known is None else known.holder

    def held_by(self, owner: int | None) -> list[str]:
        """All that an owner has; None: that nobody has."""
        return [name for name, stream in self._streams.items() if stream.holder == owner]

    @property
    def all_done(self) -> bool:
        """Whether everything is written."""
        return all(stream.done for stream in self._streams.values())

    @property
    def to_read(self) -> list[SharedStream]:
        """Those of which more than their files is left."""
        return [stream for stream in self._streams.values() if not (stream.done or stream.over)]

    # What the user wants.

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
            self.end(name, StreamState.ENDED)

    # What its owner says.

    def opened(self, engine: int, owner: int, report: Opened) -> None:
        """A source was opened by the owner that has it."""
        if self.owner(report.stream) != owner:
            return
        stream = self._streams[report.stream]
        stream.epoch, stream.live, stream.since = report.epoch, report.live, self._began
        self._division.turned_out(report.stream, engine=engine, live=report.live)
        info = _info(report)
        self.stats.streams[report.stream].opened(info)
        self._opened(info)

    def count(self, owner: int, name: str, numbers: StreamNumbers, *, wanted: bool) -> None:
        """What an owner has counted of a stream; ``wanted``: it was not told to leave it to another."""
        if (stream := self._streams.get(name)) is None:
            return
        self._advanced(stream.totals.take(owner, numbers, live=not stream.recorded))
        if stream.holder == owner:
            stream.begun = True
            moving = not stream.removed and not wanted
            stream.over, stream.taken = numbers.over and not moving, numbers.taken

    def written(self, owner: int, name: str, numbers: StreamNumbers | None, *, wanted: bool) -> None:
        """The owner is done with a stream; None: there was nothing left to do."""
        if self.owner(name) != owner:
            return
        if numbers is not None:
            self.count(owner, name, numbers, wanted=wanted)
        if self._division.left(name):
            stream = self._streams[name]
            stream.holder, stream.since = None, self._began
        else:
            self.end(name, StreamState.ENDED if numbers is None else None)

    # What becomes of a stream without an owner.

    def silent(self, names: Iterable[str]) -> None:
        """Nothing is heard of the owner of these streams, be it only for a while."""
        for name in names:
            stats = self.stats.streams[name]
            if stats.state is StreamState.LIVE:
                stats.state = StreamState.STALLED

    def lost(self, name: str, fate: str) -> None:
        """A stream's owner is gone without having written all of it; ``fate``: how it ended."""
        stream = self._streams[name]
        if stream.removed:
            self.end(name)
        elif not self._division.lost(name, recorded=stream.recorded, begun=stream.begun):
            text = f"{name}: {MOST_LOSSES} engines died while they read it, the last one {fate}"
            self.end(name, StreamState.FAILED, SourceError(text))
        else:
            stream.holder, stream.begun, stream.over = None, False, False
            stream.since = stream.since or self._began
            stats = self.stats.streams[name]
            stats.ended, stats.state = False, StreamState.STALLED

    def end(self, name: str, state: StreamState | None = None, error: SourceError | None = None) -> None:
        """All is done for a stream."""
        stream, stats = self._streams[name], self.stats.streams[name]
        if stream.done:
            return
        stream.done = stream.over = stats.ended = True
        stream.holder = None
        stats.state, stats.error = state or stats.state, error or stats.error
        self._division.remove(name)
        self.stats.stream_over(stats)


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
