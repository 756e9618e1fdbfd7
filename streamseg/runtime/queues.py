"""The frames of each stream that wait for the network, and whose turn it is."""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from streamseg.types import Frame, FramePolicy

_QUEUE = 12
"""Live frames that may wait together: half a second of a 25 fps camera, handed over in one moment after the
network or this machine had a hiccup. There is no need to lose all but one."""
_QUEUE_SECONDS = 0.1
"""If the oldest of them has waited for longer, it was no hiccup: the model is too slow for the stream."""
_OVERLOAD_SECONDS = 1.0
"""For so long after a frame was superseded for that, or the stream was opened (a camera hands over what
was buffered while it was examined), the newest frame alone may wait."""
_SMOOTHING = 0.1
"""Weight of the newest interval in the mean interval of a stream."""


class WaitingFrame(NamedTuple):
    """A frame that waits."""

    frame: Frame
    arrival: float
    """When its place was taken; a newer live frame that supersedes others has the place of the oldest."""
    group: Hashable
    """Input shape of the network for it."""


@dataclass(slots=True, eq=False)
class StreamQueue:
    """What waits of one stream, oldest first, and the rhythm in which its frames arrive."""

    policy: FramePolicy
    waiting: deque[WaitingFrame] = field(default_factory=deque)
    group: Hashable = None
    """Of the frames that come."""
    turn: int = 0
    """One more with every frame served: the stream with the lowest is next."""
    ended: bool = False
    superseded_at: float = -math.inf
    """When a frame was last replaced by a newer one: the model is too slow for this stream."""
    last_arrival: float | None = None
    interval: float | None = None
    """Mean seconds between two arrivals."""
    planned: float = math.inf
    """The arrival that :class:`TurnOrder` has noted for it; infinite if none."""
    counted_unknown: bool = False
    """Whether :class:`TurnOrder` counts it among the streams that may deliver at any moment."""

    @property
    def live(self) -> bool:
        """Whether the newest frame wins."""
        return self.policy is FramePolicy.NEWEST_FRAME

    def reopen(self, group: Hashable, now: float) -> None:
        """An epoch begins: it may have another frame rate, and the pause before it was no rhythm."""
        self.group = group
        self.last_arrival = self.interval = None
        self.superseded_at = now

    def add(self, frame: Frame, now: float) -> int:
        """Let a frame wait; returns how many older ones of a live stream it supersedes."""
        self._learn_rhythm(now)
        superseded, arrival = 0, now
        if self.live and self.waiting and self._is_too_much(now):
            arrival = self.waiting[0].arrival
            superseded = len(self.waiting)
            self.waiting.clear()
            self.superseded_at = now
        self.waiting.append(WaitingFrame(frame, arrival, self.group))
        return superseded

    def _is_too_much(self, now: float) -> bool:
        return (
            now - self.superseded_at <= _OVERLOAD_SECONDS
            or now - self.waiting[0].arrival > _QUEUE_SECONDS
            or len(self.waiting) >= _QUEUE
        )

    def _learn_rhythm(self, now: float) -> None:
        last, self.last_arrival = self.last_arrival, now
        if last is None:
            return
        gap = now - last
        if self.interval is None:
            self.interval = gap
        else:  # a pause says little of the rhythm
            self.interval += _SMOOTHING * (min(gap, 4 * self.interval + 0.01) - self.interval)

    def drop_late(self, not_before: float) -> int:
        """Drop the live frames that were decoded before ``not_before`` (monotonic); returns how many."""
        dropped = 0
        while self.live and self.waiting and self.waiting[0].frame.decoded_at < not_before:
            self.waiting.popleft()
            dropped += 1
        return dropped

    def next_arrival(self) -> float | None:
        """When the rhythm says that the next frame comes; None if it is not known yet."""
        if self.last_arrival is None or self.interval is None:
            return None
        return self.last_arrival + self.interval


class TurnOrder:
    """Which stream is next, and whether waiting for another frame pays; not thread-safe.

    Heaps of what was true when it was noted: an entry that is not true any more is passed over when it
    comes to the top. So no operation looks at all streams.
    """

    def __init__(self) -> None:
        self.waiting = 0
        """Frames that wait."""
        self.live = 0
        """Live streams that have not ended or have frames waiting."""
        self._recorded = 0
        """Recorded streams that have not ended: more of their frames may come at any moment."""
        self._unknown = 0
        """Live streams with nothing waiting whose rhythm is not known yet."""
        self._turn = 0
        """Of the stream served last. A stream that had nothing waiting begins here: it makes up no turns."""
        self._number = count()  # of two equal heap entries the older one is first
        self._ready: dict[Hashable, list[tuple[int, float, int, StreamQueue]]] = {}
        """By group: turn and arrival of each stream's oldest frame."""
        self._arrivals: list[tuple[float, int, StreamQueue]] = []
        """Arrival of each stream's oldest frame."""
        self._next: list[tuple[float, int, StreamQueue]] = []
        """When the next frame of each live stream with nothing waiting is due, or earlier.

        A time that becomes later, as with every frame, is not noted again: where it is never asked for (all
        batches are full, or recordings are read too) the heap would grow by one entry with each frame.
        """

    def add(self, stream: StreamQueue) -> None:
        """Count a stream."""
        self.live += stream.live
        self._recorded += not stream.live

    def end(self, stream: StreamQueue) -> None:
        """No more frames of this stream will come."""
        stream.ended = True
        self._recorded -= not stream.live
        self._known(stream)
        if not stream.waiting:
            self.live -= stream.live

    def put(self, stream: StreamQueue, frame: Frame, now: float) -> int:
        """Let a frame wait; returns how many older ones of its stream it supersedes."""
        was_idle = not stream.waiting
        if was_idle:
            stream.turn = max(stream.turn, self._turn)
            self._known(stream)
        oldest = None if was_idle else stream.waiting[0]
        superseded = stream.add(frame, now)
        self.waiting += 1 - superseded
        if oldest is None or oldest.group != stream.waiting[0].group:
            self._enqueue(stream)
        return superseded

    def expect(self, stream: StreamQueue) -> None:
        """Note when the next frame of a live stream with nothing waiting is due."""
        if stream.waiting or stream.ended or not stream.live:
            return
        due = stream.next_arrival()
        if due is not None:
            if due < stream.planned:
                stream.planned = due
                heapq.heappush(self._next, (due, next(self._number), stream))
        elif not stream.counted_unknown:
            stream.counted_unknown = True
            self._unknown += 1

    def oldest_arrival(self) -> float:
        """When the frame that has waited longest arrived; only while some wait."""
        while True:
            arrival, _, stream = self._arrivals[0]
            if stream.waiting and stream.waiting[0].arrival == arrival:
                return arrival
            heapq.heappop(self._arrivals)

    def expects_any(self, now: float, deadline: float) -> bool:
        """Whether waiting until ``deadline`` could bring a frame into the batch.

        By the streams' rhythms: a camera whose next frame is far off, or that has gone silent, delays no
        batch.
        """
        if self._recorded or self._unknown:
            return True
        while self._next:
            noted, _, stream = self._next[0]
            due = None if stream.waiting or stream.ended else stream.next_arrival()
            expected = due is not None and now < due + (stream.interval or 0.0)
            if expected and due == noted == stream.planned:
                return noted <= deadline
            heapq.heappop(self._next)
            if noted == stream.planned:
                stream.planned = math.inf
                if expected:
                    self.expect(stream)
        return False

    def take(self, most: int, *, not_before: float) -> tuple[list[Frame], Counter[str]]:
        """The frames of the next batch, all of one group, and how many late ones of each stream are dropped.

        By turns also between groups: a camera of an uncommon size gets as many frames as the others.
        """
        served: list[WaitingFrame] = []
        late: Counter[str] = Counter()
        while len(served) < most:
            groups = [served[0].group] if served else list(self._ready)
            if (stream := self._first(groups)) is None:
                break
            name = stream.waiting[0].frame.stream
            if dropped := stream.drop_late(not_before):
                late[name] += dropped
                self.waiting -= dropped
            else:
                served.append(stream.waiting.popleft())
                self.waiting -= 1
                self._turn = max(self._turn, stream.turn)
                stream.turn += 1
            self._enqueue(stream)
        return [one.frame for one in served], late

    def _first(self, groups: Sequence[Hashable]) -> StreamQueue | None:
        """The stream whose turn it is among those whose oldest frame is of one of these groups."""
        tops = [top for group in groups if (top := self._top(group)) is not None]
        return min(tops)[3] if tops else None

    def _top(self, group: Hashable) -> tuple[int, float, int, StreamQueue] | None:
        heap = self._ready.get(group, [])
        while heap:
            turn, arrival, _, stream = heap[0]
            if stream.waiting and (stream.turn, *stream.waiting[0][1:]) == (turn, arrival, group):
                return heap[0]
            heapq.heappop(heap)
        self._ready.pop(group, None)
        return None

    def _enqueue(self, stream: StreamQueue) -> None:
        """Note the rank of a stream's oldest frame, or that none waits any more."""
        if stream.waiting:
            _, arrival, group = stream.waiting[0]
            heapq.heappush(
                self._ready.setdefault(group, []), (stream.turn, arrival, next(self._number), stream)
            )
            heapq.heappush(self._arrivals, (arrival, next(self._number), stream))
        elif stream.ended:
            self.live -= stream.live
        else:
            self.expect(stream)

    def _known(self, stream: StreamQueue) -> None:
        self._unknown -= stream.counted_unknown
        stream.counted_unknown = False
