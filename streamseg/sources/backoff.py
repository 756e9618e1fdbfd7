"""How long things may take, and when to try again."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class HasDeadline(Protocol):
    """Something with a deadline that may change."""

    def due_at(self) -> float:
        """The deadline, in seconds of the monotonic clock; infinite if there is none."""


Timed = TypeVar("Timed", bound=HasDeadline)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow from attempt to attempt, with jitter: fifty cameras must not all come back at once."""

    first: float = 1.0
    """Seconds before the first new attempt."""
    longest: float = 30.0
    """Seconds that the delay grows to, doubling."""
    jitter: float = 0.2
    """Fraction by which a delay is lengthened or shortened at random."""
    healthy: float = 60.0
    """Seconds a stream has to be live for the next delay to be the first one again."""
    refused: float = 60.0
    """Seconds before the first new attempt after a camera refused the user or the path."""
    refused_longest: float = 900.0
    """Seconds that this delay grows to: cameras lock users out after five wrong passwords in half an hour."""

    def delay(self, failures: int, draw: float, *, refused: bool = False) -> float:
        """Seconds to wait after this many failures in a row (>= 1); ``draw`` is random in [0, 1)."""
        first, longest = (self.refused, self.refused_longest) if refused else (self.first, self.longest)
        # 2**30 is beyond every delay; more would overflow after a weekend without network.
        plain = min(longest, first * 2.0 ** min(failures - 1, 30))
        return plain * (1 + self.jitter * (2 * draw - 1))


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for a decode worker, in seconds.

    How long a camera may be silent is :attr:`streamseg.sources.Source.read_timeout`.
    """

    start: float = 30.0
    """Until the first message of a new worker: fifty interpreters may start at once on two cores."""
    first_frame: float = 10.0
    """From opening a live source to its first picture, beyond FFmpeg's time-outs: some cameras send a
    key frame every 10 s only."""
    recorded_silence: float = 60.0
    """Without a sign of life while a recording is read: disks that have to spin up, drives in the network."""
    grace: float = 1.0
    """For workers to exit after they were asked to; then they are killed."""


class Deadlines(Generic[Timed]):
    """When to look at which decoder.

    A deadline that moves to a later time, as at every frame, costs nothing: the decoder is looked at when the
    earlier decoder is reached, and planned anew.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._planned: dict[Timed, float] = {}
        self._order = itertools.count()

    def plan(self, decoder: Timed) -> None:
        """Take note of a decoder's deadline, which may have changed."""
        due = decoder.due_at()
        if due < self._planned.get(decoder, math.inf):
            self._planned[decoder] = due
            heapq.heappush(self._heap, (due, next(self._order), decoder))

    def next(self) -> float:
        """When to look again, at the latest."""
        return self._heap[0][0] if self._heap else math.inf

    def reached(self, now: float) -> Iterator[Timed]:
        """The decoders to look at now, each to be planned again."""
        while self._heap and self._heap[0][0] <= now:
            due, _, decoder = heapq.heappop(self._heap)
            if self._planned.get(decoder) == due:  # else it was planned for an earlier time meanwhile
                del self._planned[decoder]
                yield decoder
