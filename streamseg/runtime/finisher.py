"""The host's part of a batch: a small pool of threads, and each stream's results in order.

put(frame) -> [ finish: any order, any thread ] -> [ deliver: one thread a stream, in order ]
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from streamseg.types import Frame, Instances

THREADS = min(4, os.cpu_count() or 1)
"""Finishing releases Python's lock most of the time; more threads would wait for it."""


@dataclass(slots=True, eq=False)
class _Job:
    frame: Frame
    finish: Callable[[], Instances]
    undelivered: _Undelivered
    instances: Instances | None = None


@dataclass(slots=True, eq=False)
class _Undelivered:
    """The frames of one stream that are not delivered yet, in order."""

    jobs: deque[_Job] = field(default_factory=deque)
    delivering: bool = False
    """Whether a thread is at it: results of one stream are delivered one after the other."""


class Finisher:
    """Finishes frames in a pool of threads and delivers them, each stream's in order.

    An exception of ``finish`` or ``deliver`` ends the work: what comes later is discarded.
    """

    def __init__(
        self,
        deliver: Callable[[Frame, Instances], None],
        *,
        on_error: Callable[[BaseException], None],
        capacity: int,
        threads: int = THREADS,
    ) -> None:
        """Prepare; :meth:`start` starts the threads.

        ``deliver`` is called in the pool's threads, ``on_error`` with the first exception. At most
        ``capacity`` frames are under way.
        """
        self._deliver, self._on_error, self._capacity = deliver, on_error, capacity
        self._undelivered: dict[str, _Undelivered] = {}
        self._ready: deque[_Job] = deque()
        self._under_way = 0
        self._lock = threading.Lock()
        # Two conditions, and one thread woken at a time: a thread that wakes for nothing takes Python's lock
        # from one that works.
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._closed = self._broken = False
        self.threads = [threading.Thread(target=self._run, name=f"finish-{k}") for k in range(threads)]

    def start(self) -> None:
        """Begin to work."""
        for thread in self.threads:
            thread.start()

    def put(self, frame: Frame, finish: Callable[[], Instances]) -> None:
        """Take a frame, whose instances ``finish`` gives; waits while there is no room."""
        with self._lock:
            self._room.wait_for(lambda: self._under_way < self._capacity or self._broken)
            if self._broken:
                return
            undelivered = self._undelivered.setdefault(frame.stream, _Undelivered())
            job = _Job(frame, finish, undelivered)
            undelivered.jobs.append(job)
            self._ready.append(job)
            self._under_way += 1
            self._work.notify()

    def wait_until_at_most(self, frames: int) -> None:
        """Return when no more than so many frames are under way, or work has ended."""
        with self._lock:
            self._room.wait_for(lambda: self._under_way <= frames or self._broken)

    def close(self) -> None:
        """Nothing more will come: the threads end behind the last frame."""
        with self._lock:
            self._closed = True
            self._work.notify_all()

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                job.instances = job.finish()
                self._deliver_ready(job.frame.stream, job.undelivered)
                del job  # held while waiting for the next one, its frame would keep a slot of the ring
        except BaseException as error:  # noqa: BLE001  the pipeline raises it again
            self._discard()
            self._on_error(error)

    def _next(self) -> _Job | None:
        with self._lock:
            self._work.wait_for(lambda: self._ready or self._closed or self._broken)
            return self._ready.popleft() if self._ready else None

    def _deliver_ready(self, stream: str, undelivered: _Undelivered) -> None:
        """Deliver the stream's oldest frames as far as they are finished, unless a thread is at it."""
        with self._lock:
            job = self._begin_delivery(stream, undelivered)
        while job is not None:
            assert job.instances is not None
            self._deliver(job.frame, job.instances)
            with self._lock:
                undelivered.delivering = False
                self._under_way -= 1
                self._room.notify_all()
                job = self._begin_delivery(stream, undelivered)

    def _begin_delivery(self, stream: str, undelivered: _Undelivered) -> _Job | None:
        """The stream's next frame to deliver; called with the lock."""
        if undelivered.delivering or self._broken:
            return None
        if not undelivered.jobs:
            if self._undelivered.get(stream) is undelivered:
                del self._undelivered[stream]
            return None
        if undelivered.jobs[0].instances is None:
            return None
        undelivered.delivering = True
        return undelivered.jobs.popleft()

    def _discard(self) -> None:
        with self._lock:
            self._broken = True
            self._ready.clear()
            self._undelivered.clear()
            self._work.notify_all()
            self._room.notify_all()
