"""What a run did, stream by stream; kept by the pipeline, told by the command line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streamseg.batching import LATE, SUPERSEDED
from streamseg.errors import StreamsegError
from streamseg.types import StreamInfo, StreamState


@dataclass(slots=True)
class StreamSummary:
    """What became of one stream."""

    info: StreamInfo | None = None
    """Its last opening; None if it never opened."""
    state: StreamState = StreamState.CONNECTING
    reconnects: int = 0
    received: int = 0
    results: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Frames of a live stream that were not processed, by reason."""
    error: StreamsegError | None = None
    """Why it failed; None while it goes on and if it ended well."""
    ended: bool = False
    closed: bool = False

    @property
    def waiting(self) -> int:
        """Frames on their way through the pipeline."""
        return self.received - self.results - self.dropped[SUPERSEDED] - self.dropped[LATE]


@dataclass(slots=True)
class Summary:
    """What a run did."""

    streams: dict[str, StreamSummary]
    labels: Counter[str] = field(default_factory=Counter)
    """Instances by class name, over all frames."""
    seconds: float = 0.0
    output_errors: list[StreamsegError] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames with a result."""
        return sum(s.results for s in list(self.streams.values()))

    @property
    def errors(self) -> list[StreamsegError]:
        """Everything that went wrong, sources first."""
        return [s.error for s in list(self.streams.values()) if s.error is not None] + self.output_errors
