"""Which worker of a cluster has which camera, and since when nobody has heard of a worker.

A worker renews its lease with every report. One that gets no answer for :data:`LEASE_SECONDS` of its own
clock ends its cameras, unless Redis decides who owns them; one that has not been heard of for
:data:`LOST_SECONDS` of the controller's clock is lost, and its cameras go to others. The worker counts from
the moment it sent its last report that was answered, the controller from the moment it got one, which is
later. So no absolute time is compared: it is enough that no clock runs by a quarter faster than another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from streamseg.scale.assignment import assign

RENEW_SECONDS = 1.0
"""Between two reports of a worker."""
LEASE_SECONDS = 5.0
"""A worker whose machine is busy may miss some reports; all of a camera's outage has to be below 15 s."""
LOST_SECONDS = 7.0
"""2 s more: for clocks that differ, and for the worker to end its engine."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells with each renewal of its lease."""

    worker: str
    """Its id."""
    place: str = ""
    """Machine and device, for people."""
    capacity: float | None = None
    """Frames per second of its network; None while its engine is not ready."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Newest epoch of each camera that it has begun with."""
    states: Mapping[str, str] = field(default_factory=dict)
    """Of these cameras, as in their status."""
    frames: int = 0
    """Results since its engine began."""
    trouble: str = ""
    """Why it does not do what it is asked; empty while it does."""


@dataclass(slots=True)
class _Worker:
    report: Report
    seen: float
    """When it was heard of last, on the controller's clock."""


class Roster:
    """Gives cameras to workers. One thread at a time."""

    def __init__(self, expected: Iterable[str] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without cameras.

        Args:
            expected: Workers that may have cameras from a former controller: nothing is given out before
                each of them was heard of or is lost.
            clock: In seconds.
        """
        self._clock = clock
        self._wanted: frozenset[str] = frozenset()
        self._workers: dict[str, _Worker] = {}
        self._owners: dict[str, str] = {}
        self._epochs: dict[str, int] = {}
        """Newest that was heard of, by camera."""
        self._expected = set(expected)
        self._expected_until = clock() + LOST_SECONDS

    def want(self, streams: Iterable[str]) -> None:
        """These cameras are to be read from now on, and no others."""
        self._wanted = frozenset(streams)

    def renew(self, report: Report) -> dict[str, int | None]:
        """Take a worker's report; returns what it is to read: by camera, the newest epoch known, if any."""
        now = self._clock()
        self._workers[report.worker] = _Worker(report, now)
        self._expected.discard(report.worker)
        for stream, epoch in report.held.items():
            self._epochs[stream] = max(epoch, self._epochs.get(stream, -1))
            self._owners.setdefault(stream, report.worker)
        self._assign(now)
        return {
            stream: self._epochs.get(stream)
            for stream, owner in self._owners.items()
            if owner == report.worker and self._may_read(stream, report)
        }

    def lost(self, worker: str) -> None:
        """A worker is known to be gone."""
        self._workers.pop(worker, None)
        self._expected.discard(worker)

    def workers(self) -> list[tuple[Report, float]]:
        """The last report of each worker that is not lost, and its age in seconds."""
        now = self._clock()
        self._forget_lost(now)
        return [(worker.report, now - worker.seen) for _, worker in sorted(self._workers.items())]

    def owners(self) -> dict[str, str | None]:
        """Who is to have each camera; None: there is no worker for it."""
        return {stream: self._owners.get(stream) for stream in sorted(self._wanted)}

    def _assign(self, now: float) -> None:
        self._forget_lost(now)
        if self._expected and now < self._expected_until:
            self._owners = {s: owner for s, owner in self._owners.items() if s in self._wanted}
            return
        capacities = {
            id_: worker.report.capacity
            for id_, worker in self._workers.items()
            if worker.report.capacity is not None
        }
        self._owners = assign(self._wanted, capacities, self._owners)

    def _forget_lost(self, now: float) -> None:
        lost = [id_ for id_, worker in self._workers.items() if now - worker.seen > LOST_SECONDS]
        for id_ in lost:
            del self._workers[id_]

    def _may_read(self, stream: str, report: Report) -> bool:
        """Whether nobody else has the camera still: it goes from hand to hand.

        A worker that was taken for lost may believe that it has what another has had meanwhile.
        """
        if stream in report.held:
            return report.held[stream] == self._epochs[stream]
        return not any(stream in other.report.held for other in self._workers.values())
