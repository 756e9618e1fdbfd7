"""How many objects of each class were seen, second by second."""

from collections import deque
from collections.abc import Iterable
from itertools import dropwhile

SECONDS = 300
"""How far back the chart of the live page goes."""


class CountHistory:
    """The highest number of instances per class in each of the last 300 seconds. Not thread-safe."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, dict[str, int]]] = deque(maxlen=SECONDS)

    def add(self, labels: Iterable[str], *, time: float) -> None:
        """Count the objects of one frame; ``time`` in seconds never decreases by more than a second."""
        counts: dict[str, int] = {}
        for label in labels:
            counts[label] = counts.get(label, 0) + 1
        second = int(time)
        if not self._seconds or second > self._seconds[-1][0]:
            self._seconds.append((second, counts))
            return
        highest = self._seconds[-1][1]
        for label, count in counts.items():
            highest[label] = max(count, highest.get(label, 0))

    def since(self, second: int, *, now: float) -> list[tuple[int, dict[str, int]]]:
        """The seconds after ``second`` that are over, oldest first; those without a frame are left out."""
        newest, oldest = int(now), int(now) - SECONDS
        recent = dropwhile(lambda entry: entry[0] <= max(second, oldest), self._seconds)
        return [(at, dict(counts)) for at, counts in recent if at < newest]
