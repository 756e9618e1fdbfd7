"""A stream's numbers over all engines that have had it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from operator import attrgetter

from streamseg.errors import SourceError
from streamseg.runtime.stats import StreamStats
from streamseg.scale.control import StreamNumbers

_ADDED = ("reconnects", "results", "lost", "concealed", "packets")


class StreamTotals:
    """Adds up what engines have counted of one stream, into the run's numbers of it.

    A camera's numbers are those of all its owners. A recording that was lost with its engine is done again
    from its beginning, if only to pass over the results that are there: the last owner's count for all.
    """

    def __init__(self, stats: StreamStats, *, resumed: bool) -> None:
        """``resumed``: whether results from before are those of an earlier run, and to be told."""
        self._stats, self._resumed = stats, resumed
        self._by_owner: dict[int, StreamNumbers] = {}
        self._most = 0
        """Results, before a recording was done again."""

    def take(self, owner: int, numbers: StreamNumbers, *, live: bool) -> int:
        """What an owner, told by a number of its own, has counted; returns how many results are new."""
        self._by_owner.pop(owner, None)
        self._by_owner[owner] = numbers  # behind all others: it is the present one
        counted = list(self._by_owner.values()) if live else [numbers]
        stats = self._stats
        for name in _ADDED:
            setattr(stats, name, sum(map(attrgetter(name), counted)))
        stats.labels = _sum(one.labels for one in counted)
        stats.dropped = _sum(one.dropped for one in counted)
        # What was under way in an engine that is gone waits nowhere.
        gone = counted[:-1]
        stats.received = numbers.received + sum(one.results + sum(one.dropped.values()) for one in gone)
        stats.state, stats.ended, stats.stopped = numbers.state, numbers.ended, numbers.stopped
        stats.kept = numbers.kept if self._resumed else 0
        stats.error = None if numbers.error is None else SourceError(numbers.error)
        new, self._most = max(0, stats.results - self._most), max(self._most, stats.results)
        return new


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total
