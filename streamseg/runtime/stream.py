"""One stream of a run: its numbers, its tracks, and its backlog at each output."""

from __future__ import annotations

from dataclasses import dataclass

from streamseg.outputs.backlog import StreamBacklog
from streamseg.runtime.delivery import Outputs
from streamseg.runtime.stats import StreamStats
from streamseg.runtime.tracking import Tracker
from streamseg.runtime.votes import LabelVotes
from streamseg.types import Frame, FrameResult, FramesDamaged, Instances, StreamChanged, StreamInfo
from streamseg.zones import StreamRules, Watched


@dataclass(frozen=True, slots=True)
class Followed:
    """What a stream makes of the instances of a frame."""

    instances: Instances
    """Those that count, with their ids and the labels of their tracks."""
    found: Instances
    """The same with the labels that the network gave them in this frame."""
    watched: Watched | None
    """What zones and lines say of them, if there are any."""


class Stream:
    """A stream from its announcement until its writers are closed; one that comes back is a new one.

    What concerns its source is called by the thread that reads the sources; :meth:`follow` and :meth:`put`
    by one thread at a time.
    """

    def __init__(
        self, name: str, stats: StreamStats, outputs: Outputs, *, track: bool, rules: StreamRules
    ) -> None:
        self.name, self.stats = name, stats
        self._rules, self._filter, self._watch = rules, rules.filter(), rules.watch()
        self._outputs = outputs
        self._track = track
        self._tracker: Tracker | None = None
        self._votes = LabelVotes()
        self._epoch = -1
        self._backlogs: list[StreamBacklog] = []
        self._dropped = 0
        """Results that outputs have dropped, as far as that was reported."""

    def open(self, info: StreamInfo) -> None:
        """The source is open: with the first epoch each output gets a writer for the stream."""
        self.stats.opened(info)
        if not self._backlogs:
            self._backlogs = self._outputs.open(info)
            return
        for backlog in self._backlogs:
            backlog.begin_epoch(info)

    @property
    def source(self) -> str:
        """What is read, see :attr:`StreamInfo.source`."""
        return self.stats.info.source if self.stats.info else ""

    def set_rules(self, rules: StreamRules) -> None:
        """Another choice of objects, zones and lines, from the next frame on. Any thread.

        Counts begin anew if zones or lines have changed.
        """
        watching = (rules.zones, rules.lines) != (self._rules.zones, self._rules.lines)
        self._rules, self._filter = rules, rules.filter()
        if watching:
            self._watch = rules.watch()

    def follow(self, frame: Frame, instances: Instances) -> Followed:
        """Choose the instances that count, give them ids and labels, and watch them at zones and lines."""
        found = self._tracked(frame, self._filter(instances))
        labelled = self._votes.update(found, time=frame.pts)
        watch = self._watch
        return Followed(labelled, found, watch.update(frame, labelled) if watch else None)

    def _tracked(self, frame: Frame, instances: Instances) -> Instances:
        """Give instances their ids; with every epoch tracks begin anew: what happened between is unknown."""
        if not self._track:
            return instances
        # Another thread may close the stream while a frame that was given up is here.
        tracker = self._tracker
        if tracker is None or frame.epoch != self._epoch:
            info = self.stats.info
            tracker = self._tracker = Tracker(fps=info.fps if info else None)
            self._epoch, self._votes = frame.epoch, LabelVotes()
        return tracker.update(instances, time=frame.pts)

    def put(self, result: FrameResult, frame: Frame, instances: Instances) -> None:
        """Hand a result on to every output."""
        for backlog in self._backlogs:
            backlog.put(result, frame, instances)
        if sum(backlog.dropped for backlog in self._backlogs) != self._dropped:
            self.report_drops()

    def report_drops(self) -> None:
        """Tell every output how many frames were dropped before it, and how many by itself."""
        before = self.stats.dropped.total()
        self._dropped = sum(backlog.dropped for backlog in self._backlogs)
        if not self._backlogs:
            self._outputs.report(self.name, dropped=before)
        for runner, backlog in zip(self._outputs.runners, self._backlogs, strict=False):
            runner.report(self.name, dropped=before + backlog.dropped)

    def damaged(self, event: FramesDamaged) -> None:
        """More damage was found in its source."""
        self.stats.frames_damaged(event)
        self._outputs.report(self.name, damaged=self.stats.damaged, lost_packets=self.stats.packets)

    def report_change(self, event: StreamChanged) -> None:
        """Tell the outputs of another state. The last one waits until the last frame has its result."""
        self._outputs.report(self.name, reconnects=event.reconnects, error=str(event.error or ""))
        if not event.over:
            self._outputs.report(self.name, state=event.state.value)

    def close(self) -> None:
        """The stream is over: close its writers behind what waits for them, and let its masks and tracks go.

        A run over thousands of files would keep those of each. A frame that was given up may still come.
        """
        self._outputs.report(self.name, state=self.stats.state.value)
        self._outputs.close(self._backlogs, self.stats.end)
        self._filter, self._watch, self._tracker = self._rules.filter(), None, None
        self._votes = LabelVotes()

    @property
    def taken(self) -> bool:
        """Whether at least one output takes its results; also true before it has opened."""
        if not self._backlogs:
            return not self._outputs.gone
        return any(backlog.takes for backlog in self._backlogs)

    @property
    def written(self) -> bool:
        """Whether it is over and every writer has finished its files."""
        return self.stats.over and all(backlog.over for backlog in self._backlogs)

    def drops_of_outputs(self) -> list[tuple[str, int]]:
        """Name of the output and number of results, for those that have dropped some."""
        pairs = zip(self._outputs.runners, self._backlogs, strict=False)
        return [(runner.name, backlog.dropped) for runner, backlog in pairs if backlog.dropped]
