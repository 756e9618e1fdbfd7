"""What waits for an output, stream by stream."""

from collections import deque
from dataclasses import dataclass, field

from streamseg.types import Frame, FrameResult, Instances, StreamInfo


@dataclass(slots=True)
class Put:
    """A result to write."""

    result: FrameResult
    frame: Frame | None
    instances: Instances | None


@dataclass(slots=True)
class Close:
    """The end of a stream."""

    complete: bool
    cut_short: bool = False


Entry = StreamInfo | Put | Close


@dataclass(slots=True)
class Lane:
    """The entries of one stream that wait, oldest first."""

    limit: int | None
    """Results kept, None for all."""
    pictures: int | None = None
    """Results that keep their pixels, None for all."""
    entries: deque[Entry] = field(default_factory=deque)
    puts: int = 0
    warned: float = 0.0
    failed: bool = False
    """Whether the output cannot write this stream any more."""

    pictured: deque[Put] = field(default_factory=deque)

    def clear(self) -> int:
        """Discard everything; returns how many results that were."""
        discarded, self.puts = self.puts, 0
        self.entries.clear()
        self.pictured.clear()
        return discarded

    def strip_oldest(self, put: Put) -> None:
        """Note a new result; take its pixels from the one that is the oldest to have some."""
        if self.pictures is None:
            return
        self.pictured.append(put)
        if len(self.pictured) > self.pictures:
            oldest = self.pictured.popleft()
            oldest.frame = oldest.instances = None

    def forget(self, put: Put) -> None:
        """Note that a result leaves."""
        self.puts -= 1
        if self.pictured and self.pictured[0] is put:
            self.pictured.popleft()

    def drop_oldest(self) -> None:
        """Remove the oldest result, and of the openings before it all but the last."""
        opening: Entry | None = None
        while not isinstance(entry := self.entries.popleft(), Put):
            opening = entry
        if opening is not None:
            self.entries.appendleft(opening)
        self.forget(entry)
