"""Whether an output writes its results, and which it has not written."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamseg.outputs.backlog import StreamBacklog

STUCK_SECONDS = 5.0
"""For one result, an opening or a close; a video part of an hour is finished in one."""


@dataclass(frozen=True, slots=True)
class OutputHealth:
    """One output at one moment."""

    name: str
    trouble: str | None = None
    """Why it does not write its results, in one line; None while it does."""
    stuck: bool = False
    """Whether only its silence shows this trouble: it has written nothing for long, and gives no reason."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Results it did not write, by stream: it was too slow, or had failed."""
    errors: int = 0
    """How often it failed."""
    missed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Results that it wrote and that were gone before a reader had them, by stream and reader."""

    @property
    def up(self) -> bool:
        """Whether it writes its results."""
        return self.trouble is None


class StepWatch:
    """Notes which thread of an output works on which stream, and since when. Any thread."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def begin(self, stream: str) -> None:
        """The calling thread begins a step."""
        with self._lock:
            self._since[threading.get_ident()] = (time.monotonic(), stream)

    def end(self) -> None:
        """The calling thread is done with it."""
        with self._lock:
            self._since.pop(threading.get_ident(), None)

    def stuck(self) -> str | None:
        """The step that takes longer than any should, in words; None if there is none."""
        with self._lock:
            oldest = min(self._since.values(), default=None)
        if oldest is None or time.monotonic() - oldest[0] < STUCK_SECONDS:
            return None
        return f"has not written a result of stream {oldest[1]} for {STUCK_SECONDS:g} s and more"


def count_dropped(former: Counter[str], backlogs: Sequence[StreamBacklog]) -> dict[str, int]:
    """Results by stream that were not written, of streams that are over and of these."""
    dropped = Counter(former)
    for backlog in backlogs:
        dropped[backlog.stream] += backlog.dropped + backlog.lost
    return {stream: count for stream, count in dropped.items() if count}


def first_error(backlogs: Sequence[StreamBacklog]) -> str | None:
    """Why one of these streams cannot be written any more."""
    return next((str(backlog.error) for backlog in backlogs if backlog.error is not None), None)
