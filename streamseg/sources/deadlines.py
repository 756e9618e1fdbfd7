"""When to look at which of many things that have a deadline."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class HasDeadline(Protocol):
    """Something with a deadline that may change."""

    def due_at(self) -> float:
        """The deadline, in seconds of the monotonic clock; infinite if there is none."""


Timed = TypeVar("Timed", bound=HasDeadline)


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
