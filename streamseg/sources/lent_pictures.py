"""The pictures of one decode worker, as its parent lends them: job by job, from the job's newest ring."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from streamseg.sources.lent_slots import LentSlots
from streamseg.sources.messages import Opened, Release, Resized
from streamseg.sources.ring import RingReader


class LentPictures:
    """The ring that is read, and the slots in use: also those of rings and jobs before.

    Pictures stay valid until the last view of them is gone, whatever becomes of job and worker.
    """

    def __init__(self) -> None:
        self._lent = LentSlots()
        self._ring: RingReader | None = None
        self._ring_number = 0
        """Of the ring within the job."""
        self._slots = 0
        self.job = 0
        """Number of the present job."""
        self.pixel_aspect = Fraction(1)
        """Width by height of a pixel as it is shown."""

    @property
    def mapped(self) -> bool:
        """Whether pictures of the present job can be read."""
        return self._ring is not None

    @property
    def in_use(self) -> int:
        """Slots that somebody looks at, of all jobs."""
        return self._lent.total

    @property
    def exhausted(self) -> bool:
        """Whether the worker has no slot left for the next picture."""
        return self.mapped and self._lent.of_job(self.job) >= self._slots

    def begin_job(self) -> int:
        """The worker is to read something else; returns the job's number."""
        self.end_job()
        self.job += 1
        return self.job

    def end_job(self) -> None:
        """The worker reads the present job no more, and is told nothing of its slots."""
        self.unmap()
        self._lent.end_job()

    def unmap(self) -> None:
        """No more pictures of the present job will come."""
        self._ring = None

    def map(self, message: Opened | Resized, fd: int) -> None:
        """Read from a new ring, whose descriptor is closed. Raises OSError or ValueError if that fails."""
        self._ring = RingReader(fd, message.height, message.width)
        self._ring_number = message.ring if isinstance(message, Resized) else 0
        self._slots = message.slots
        self.pixel_aspect = Fraction(*message.pixel_aspect)

    def lend(self, slot: int, returned: Callable[[int, int, int], None]) -> NDArray[np.uint8]:
        """The picture in a slot, (height, width, 3) uint8, read-only.

        ``returned`` is called with job, ring and slot when its last view is gone: in any thread, also in the
        midst of a garbage collection, so it must take no lock.
        """
        assert self._ring is not None, "a frame without a ring"
        self._lent.lend(self.job, self._ring_number)
        return self._ring.lend(slot, partial(returned, self.job, self._ring_number, slot))

    def take_back(self, job: int, ring: int, slot: int) -> bool:
        """A picture is looked at no more; returns whether its job goes on and needs the slot."""
        self._lent.give_back(job, ring)
        if job != self.job or not self.mapped:
            return False
        self._lent.tell_later(ring, slot)
        return True

    def next_release(self) -> Release | None:
        """What to tell the worker next of the slots that came back; None when it knows of all."""
        return self._lent.next_release(self.job)
