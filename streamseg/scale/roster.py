"""Which worker of a cluster has which camera, and since when nobody has heard of a worker.

A worker renews its lease with every report. One that gets no answer for :data:`LEASE_SECONDS` of its own
clock ends its cameras, unless Redis decides who owns them; one that has not been heard of for
:data:`LOST_SECONDS` of the controller's clock is lost, and its cameras go to others. The worker counts from
the moment it sent its last report that was answered, the controller from the moment it got one, which is
later. So no absolute time is compared: it is enough that no clock runs by a quarter faster than another.

Where Redis refuses what a former owner sends nobody has to wait for that. A worker whose connection is broken
and that is silent as well is lost after :data:`BROKEN_SECONDS`: its process is gone, as a rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from streamseg.scale.assignment import assign

RENEW_SECONDS = 1.0
"""Between two reports of a worker."""
ANSWER_SECONDS = 2.0
"""For a worker to hear from the controller; then it asks again at once."""
LEASE_SECONDS = 4.0
"""As short as it can be if one answer may be lost: a report each second, 2 s without its answer, and 1 s for
the answer to the next."""
LOST_SECONDS = 5.5
"""A quarter more, for clocks that differ, and half a second for a worker to end its engine."""
BROKEN_SECONDS = 2.0
"""A worker that is there reports in that time, though its connection from the controller has broken."""
_ABSENT_SECONDS = 3.0
"""Each worker reports once a second: nobody is silent that long together with all others."""
_REMEMBERED_SECONDS = 3600.0
"""People are told of a lost worker that long."""


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
    metrics: str | None = None
    """Where it serves its metrics, if it does."""


@dataclass(slots=True)
class _Worker:
    report: Report
    seen: float
    """When it was heard of last, on the controller's clock."""
    broken: bool = False
    """Whether a connection to it has broken since."""


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
        self._guarded = False
        self._workers: dict[str, _Worker] = {}
        self._lost: dict[str, _Worker] = {}
        """Those that were lost and did not come back, for people."""
        self._owners: dict[str, str] = {}
        self._of: dict[str, list[str]] = {}
        """The same by worker."""
        self._assigned: object = None
        """What that was found from: with hundreds of workers nothing has changed in most reports."""
        self._epochs: dict[str, int] = {}
        """Newest that was heard of, by camera."""
        self._expected = set(expected)
        self._expected_until = clock() + LOST_SECONDS
        self._heard = clock()
        """When anybody was heard of last."""

    def want(self, streams: Iterable[str], *, guarded: bool = False) -> None:
        """These cameras are to be read from now on, and no others.

        ``guarded``: whether Redis refuses what a former owner of them still sends.
        """
        self._wanted, self._guarded = frozenset(streams), guarded

    def renew(self, report: Report) -> dict[str, int | None]:
        """Take a worker's report; returns what it is to read: by camera, the newest epoch known, if any."""
        now = self._clock()
        self._note_own_absence(now)
        self._workers[report.worker] = _Worker(report, now)
        self._lost.pop(report.worker, None)
        self._expected.discard(report.worker)
        for stream, epoch in report.held.items():
            self._epochs[stream] = max(epoch, self._epochs.get(stream, -1))
            if stream not in self._owners and stream in self._wanted:
                self._owners[stream] = report.worker
                self._assigned = None
        self._assign(now)
        return {
            stream: self._epochs.get(stream)
            for stream in self._of.get(report.worker, ())
            if self._may_read(stream, report)
        }

    def broken(self, worker: str) -> None:
        """A connection to a worker has broken: its process is gone, or the network between."""
        if worker in self._workers:
            self._workers[worker].broken = True

    def workers(self) -> list[tuple[Report, float]]:
        """The last report of each worker that is not lost, and its age in seconds."""
        now = self._clock()
        return [
            (worker.report, now - worker.seen)
            for _, worker in sorted(self._workers.items())
            if not self._is_lost(worker, now)
        ]

    def lost(self) -> list[tuple[Report, float]]:
        """The same of workers that are lost."""
        now = self._clock()
        silent = {id_: worker for id_, worker in self._workers.items() if self._is_lost(worker, now)}
        return [(worker.report, now - worker.seen) for _, worker in sorted((self._lost | silent).items())]

    def owners(self) -> dict[str, str | None]:
        """Who is to have each camera; None: there is no worker for it."""
        there = {report.worker for report, _ in self.workers()}
        owners = {stream: self._owners.get(stream) for stream in sorted(self._wanted)}
        return {stream: owner if owner in there else None for stream, owner in owners.items()}

    def _note_own_absence(self, now: float) -> None:
        """Nobody was heard of for a while: it was us who were stopped, or cut off from all of them.

        Their reports wait to be read, one after the other; the first must not find all others lost.
        """
        absence = now - self._heard
        self._heard = now
        if absence > _ABSENT_SECONDS:
            for worker in self._workers.values():
                worker.seen += absence - RENEW_SECONDS

    def _assign(self, now: float) -> None:
        self._forget_lost(now)
        waiting = bool(self._expected) and now < self._expected_until
        capacities = {
            id_: worker.report.capacity
            for id_, worker in self._workers.items()
            if worker.report.capacity is not None
        }
        if self._assigned == (found_from := (waiting, self._wanted, capacities)):
            return
        if waiting:
            self._owners = {s: owner for s, owner in self._owners.items() if s in self._wanted}
        else:
            self._owners = assign(self._wanted, capacities, self._owners)
        self._assigned = found_from
        self._of = {}
        for stream, owner in self._owners.items():
            self._of.setdefault(owner, []).append(stream)

    def _forget_lost(self, now: float) -> None:
        for id_ in [id_ for id_, worker in self._workers.items() if self._is_lost(worker, now)]:
            self._lost[id_] = self._workers.pop(id_)
        self._lost = {id_: w for id_, w in self._lost.items() if now - w.seen < _REMEMBERED_SECONDS}

    def _is_lost(self, worker: _Worker, now: float) -> bool:
        patience = BROKEN_SECONDS if worker.broken and self._guarded else LOST_SECONDS
        return now - worker.seen > patience

    def _may_read(self, stream: str, report: Report) -> bool:
        """Whether nobody else has the camera still: it goes from hand to hand.

        A worker that was taken for lost may believe that it has what another has had meanwhile.
        """
        if stream in report.held:
            return report.held[stream] == self._epochs[stream]
        return not any(stream in other.report.held for other in self._workers.values())
