"""Which slots of a decode worker's rings are in use, and which of those given back it has to be told of."""

from __future__ import annotations

from collections import Counter

from streamseg.sources.messages import Release

SLOTS_PER_RELEASE = 1024
"""Slots named in one message, which must stay far below :data:`streamseg.sources.messages.MAX_MESSAGE`."""


class LentSlots:
    """Counts the slots in use, also those of former jobs; the present job's are to be used again."""

    def __init__(self) -> None:
        self._in_use: Counter[tuple[int, int]] = Counter()
        """By job and ring."""
        self._to_release: dict[int, list[int]] = {}
        """By ring of the present job: slots that the worker is not told of yet."""

    @property
    def total(self) -> int:
        """Slots in use, of all jobs."""
        return self._in_use.total()

    def of_job(self, job: int) -> int:
        """Slots in use of one job, in all of its rings."""
        return sum(count for (other, _), count in self._in_use.items() if other == job)

    def lend(self, job: int, ring: int) -> None:
        """One more slot is in use."""
        self._in_use[job, ring] += 1

    def give_back(self, job: int, ring: int) -> None:
        """One slot less is in use."""
        self._in_use[job, ring] -= 1
        if not self._in_use[job, ring]:
            del self._in_use[job, ring]

    def tell_later(self, ring: int, slot: int) -> None:
        """Keep a slot of the present job for :meth:`next_release`."""
        self._to_release.setdefault(ring, []).append(slot)

    def next_release(self, job: int) -> Release | None:
        """What to tell the worker next, which is then no longer kept; None when it knows of all."""
        if not self._to_release:
            return None
        ring, slots = next(iter(self._to_release.items()))
        release = Release(job, tuple(slots[:SLOTS_PER_RELEASE]), ring)
        del slots[:SLOTS_PER_RELEASE]
        if not slots:
            del self._to_release[ring]
        return release

    def end_job(self) -> None:
        """The worker reads the present job no more: it is told nothing of its slots."""
        self._to_release.clear()
