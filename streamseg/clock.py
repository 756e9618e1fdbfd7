"""One clock for all that a source sends, made to go on where its time stamps start again or jump.

Pictures and sound are moved by the same time, so that they stay in step. Nothing is read here: the caller
passes the time stamps of each packet.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

BACKWARD = Fraction(1, 10)
"""Seconds by which the decoding time of a picture may lie before the one ahead of it; more is a jump. Where
the distance of pictures is known, half of it counts instead."""
REORDERED = Fraction(1)
"""The same for sound, which goes with the pictures, and where only presentation times are known, which
B-frames reorder."""
SMALL = Fraction(1, 50)
"""Seconds by which a packet may lie beside its expected time and still belong there."""
SAME_START = Fraction(1)
"""Seconds, at most, between where a track goes on and where the jump of another track would put it."""
JOINED_GAP = Fraction(10)
"""Seconds without a packet in a format that is cut and joined, such as MPEG-TS; longer is a jump."""
LONGEST_GAP = Fraction(6 * 3600)
"""The same in other formats, where gaps are meant: an mp4 file holds 6.6 h at 90,000 ticks a second."""
LIVE_GAP = Fraction(5)
"""Seconds by which a camera's clock may run ahead of ours between two packets; further is a jump."""
LONGEST_STEP = Fraction(1)
"""Seconds that a packet is taken to last if it does not say so, at most."""
FARTHEST = Fraction(30)
"""Seconds from decoding to presentation, at most: a greater distance is an error."""
MAX_PENDING = 256
"""Packets that wait for their picture: far more than any decoder holds back."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """Times of one packet in ticks, None where it has none."""

    pts: int | None
    dts: int | None
    duration: int
    """0 when unknown."""


@dataclass(slots=True)
class _TrackState:
    reached: Fraction
    """Where its latest packet stands on the clock that goes on."""
    step: Fraction
    """How long a packet lasts; 0 when unknown."""
    decoding: bool
    """Whether its last packet had a decoding time: presentation times of B-frames go back and forth."""
    part: int
    """Which part of the source it has come to."""

    @property
    def goes_on(self) -> Fraction:
        """Where the next packet is expected."""
        return self.reached + self.step


class SourceClock:
    """Moves the time stamps of a source's packets so that time goes on.

    A source falls into parts, each with a clock of its own: a joined recording, a camera that sets its clock.
    The first track that comes to a new part says by how much the part is moved; the others follow it.
    """

    def __init__(
        self,
        *,
        leader: int,
        longest_gap: Fraction = LONGEST_GAP,
        live: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``leader`` is the track of pictures. A gap of more than ``longest_gap`` seconds is a jump; of a
        ``live`` source one that is so much longer than what has passed on the clock ``now``."""
        self._leader, self._longest_gap, self._live, self._now = leader, longest_gap, live, now
        self._tracks: dict[int, _TrackState] = {}
        self._moved_by: list[Fraction] = [Fraction()]
        """Seconds, for each part."""
        self._seen_at, self._passed = now(), Fraction()

    @property
    def jumps(self) -> int:
        """How often the clock began anew so far."""
        return len(self._moved_by) - 1

    def move(self, track: int, stamps: Stamps, time_base: Fraction) -> Stamps:
        """The times of a packet of ``track`` on the clock that goes on, in the same ticks.

        A presentation time that cannot be meant is left out.
        """
        stamps = _plausible(stamps, time_base)
        ticks = stamps.pts if stamps.dts is None else stamps.dts
        if ticks is None:
            return stamps
        offset = round(self._offset(track, ticks * time_base, stamps, time_base) / time_base)
        return Stamps(
            None if stamps.pts is None else stamps.pts + offset,
            None if stamps.dts is None else stamps.dts + offset,
            stamps.duration,
        )

    def _offset(self, track: int, raw: Fraction, stamps: Stamps, time_base: Fraction) -> Fraction:
        """Seconds by which a packet that stands at ``raw`` is moved."""
        if self._live:
            now = self._now()
            self._passed, self._seen_at = Fraction(max(now - self._seen_at, 0.0)), now
        step, seen = stamps.duration * time_base, self._tracks.get(track)
        decoding = stamps.dts is not None
        if seen is None:
            # A track that begins late belongs to the part that the others have come to.
            part = max((other.part for other in self._tracks.values()), default=0)
            self._tracks[track] = _TrackState(raw + self._moved_by[part], step, decoding, part)
            return self._moved_by[part]
        self._find_part(seen, raw)
        ordered = decoding and seen.decoding
        if self._is_jump(track, seen, raw + self._moved_by[seen.part] - seen.reached, ordered=ordered):
            self._begin_part(track, seen, raw)
        moved = raw + self._moved_by[seen.part]
        seen.step = step or min(max(moved - seen.reached, Fraction()), LONGEST_STEP) or seen.step
        # From the first decoding time on, decoding times count.
        seen.reached = moved if decoding and not seen.decoding else max(seen.reached, moved)
        seen.decoding = decoding
        return self._moved_by[seen.part]

    def _find_part(self, seen: _TrackState, raw: Fraction) -> None:
        """Follow another track into the next part, or go back from one that a single packet began."""
        off = self._distance(seen, raw, seen.part)
        if off <= max(seen.step, SMALL):
            return
        # Back only to the very place: a camera may set its clock to about what it was at first. Forward also
        # if both fit as well: where clips overlap, the other track says which it is.
        here, back = seen.part, min(off / 2, max(2 * seen.step, BACKWARD))
        if here and self._distance(seen, raw, here - 1) <= back:
            seen.part -= 1
        elif here < self.jumps and self._distance(seen, raw, here + 1) <= min(off, SAME_START):
            seen.part += 1

    def _distance(self, seen: _TrackState, raw: Fraction, part: int) -> Fraction:
        """Seconds between where a track goes on and where a packet would stand in a part."""
        return abs(raw + self._moved_by[part] - self._goes_on(seen))

    def _goes_on(self, seen: _TrackState) -> Fraction:
        """Where the next packet is expected; a camera may have been silent meanwhile."""
        return seen.reached + max(seen.step, self._passed)

    def _is_jump(self, track: int, seen: _TrackState, gap: Fraction, *, ordered: bool) -> bool:
        if gap > (LIVE_GAP + self._passed if self._live else self._longest_gap):
            return True
        if track != self._leader or not ordered:
            return gap < -REORDERED
        return gap < -(seen.step / 2 or BACKWARD)

    def _begin_part(self, track: int, seen: _TrackState, raw: Fraction) -> None:
        goes_on = self._goes_on(seen)
        pictures = self._tracks.get(self._leader)
        if track != self._leader and pictures is not None:
            goes_on = max(goes_on, pictures.goes_on)
        self._moved_by.append(goes_on - raw)
        seen.part = len(self._moved_by) - 1


def _plausible(stamps: Stamps, time_base: Fraction) -> Stamps:
    if stamps.pts is None or stamps.dts is None:
        return stamps
    far = abs(stamps.pts - stamps.dts) * time_base > FARTHEST
    return Stamps(None, stamps.dts, stamps.duration) if far else stamps


class FrameClock:
    """Gives every decoded picture a time, later than the one before: its own, or what its packets say.

    In this order: the presentation time, the earliest decoding time of the packets whose picture has not
    come yet (decoding times in order are the presentation times, as far as they are known), one step on.
    """

    def __init__(self, *, origin: int, step: int) -> None:
        """In ticks: ``origin`` of a first picture without a time, ``step`` the nominal distance."""
        self._next, self._step = origin, step
        self._last: int | None = None
        self._pending: list[int] = []
        self.started = False
        """Whether a picture had a time."""

    def sent(self, stamps: Stamps) -> None:
        """The decoder is given a packet of pictures."""
        ticks = stamps.dts if stamps.pts is None else stamps.pts
        if ticks is not None:
            heapq.heappush(self._pending, ticks)
        if len(self._pending) > MAX_PENDING:
            heapq.heappop(self._pending)

    def failed(self, stamps: Stamps) -> None:
        """The decoder made nothing of a packet: no picture is waited for."""
        ticks = stamps.dts if stamps.pts is None else stamps.pts
        if ticks in self._pending:
            self._pending.remove(ticks)
            heapq.heapify(self._pending)

    def ticks(self, pts: int | None, duration: int = 0) -> int:
        """Time of the picture that came next, with its own presentation time if it has one."""
        ticks = self._own(pts)
        if self._last is not None and ticks <= self._last:
            ticks = self._last + 1
        self._last, self._next = ticks, ticks + (duration or self._step)
        self.started = True
        return ticks

    def _own(self, pts: int | None) -> int:
        if pts is None:
            return heapq.heappop(self._pending) if self._pending else self._next
        while self._pending and self._pending[0] <= pts:
            heapq.heappop(self._pending)
        return pts
