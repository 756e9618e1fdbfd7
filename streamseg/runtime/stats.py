"""What a run did, stream by stream; kept by the pipeline, told by the command line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streamseg.errors import SourceError, StreamsegError
from streamseg.types import GIVEN_UP, LATE, SUPERSEDED, StreamInfo, StreamState


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
    """Frames that were not processed, by reason."""
    lost: int = 0
    """Frames of a damaged recording that could not be decoded."""
    concealed: int = 0
    """Frames of a damaged recording that the decoder patched up."""
    kept: int = 0
    """Results that an interrupted run had left."""
    error: StreamsegError | None = None
    """Why it failed; None while it goes on and if it ended well."""
    ended: bool = False
    cut_short: bool = False
    """Whether it was told to end before it would have ended by itself."""
    closed: bool = False

    @property
    def waiting(self) -> int:
        """Frames on their way through the pipeline."""
        gone = sum(self.dropped[reason] for reason in (SUPERSEDED, LATE, GIVEN_UP))
        return self.received - self.results - gone


@dataclass(slots=True)
class Summary:
    """What a run did."""

    streams: dict[str, StreamSummary]
    labels: Counter[str] = field(default_factory=Counter)
    """Instances by class name, over all frames."""
    seconds: float = 0.0
    output_errors: list[StreamsegError] = field(default_factory=list)
    finished_before: int = 0
    """Files that an interrupted run had finished."""

    @property
    def frames(self) -> int:
        """Frames with a result."""
        return sum(s.results for s in list(self.streams.values()))

    @property
    def errors(self) -> list[StreamsegError]:
        """Everything that went wrong, sources first."""
        streams = list(self.streams.items())
        failed = [s.error for _, s in streams if s.error is not None]
        return failed + [_damage(name, s) for name, s in streams if s.lost] + self.output_errors


def _damage(name: str, stream: StreamSummary) -> SourceError:
    patched = f", {stream.concealed} more were patched up by the decoder" if stream.concealed else ""
    return SourceError(f"{name} is damaged: {stream.lost} frames could not be decoded{patched}")
