"""How long to wait: for a decode worker, and between two attempts to open a source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow from attempt to attempt, with jitter: fifty cameras must not all come back at once."""

    first: float = 1.0
    """Seconds before the first new attempt."""
    longest: float = 30.0
    """Seconds that the delay grows to, doubling."""
    jitter: float = 0.2
    """Fraction by which a delay is lengthened or shortened at random."""
    healthy: float = 60.0
    """Seconds a stream has to be live for the next delay to be the first one again."""
    refused: float = 60.0
    """Seconds before the first new attempt after a camera refused the user or the path."""
    refused_longest: float = 900.0
    """Seconds that this delay grows to: cameras lock users out after five wrong passwords in half an hour."""

    def delay(self, failures: int, draw: float, *, refused: bool = False) -> float:
        """Seconds to wait after this many failures in a row (>= 1); ``draw`` is random in [0, 1)."""
        first, longest = (self.refused, self.refused_longest) if refused else (self.first, self.longest)
        # 2**30 is beyond every delay; more would overflow after a weekend without network.
        plain = min(longest, first * 2.0 ** min(failures - 1, 30))
        return plain * (1 + self.jitter * (2 * draw - 1))


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for a decode worker, in seconds.

    How long a camera may be silent is :attr:`streamseg.sources.Source.read_timeout`.
    """

    start: float = 30.0
    """Until the first message of a new worker: fifty interpreters may start at once on two cores."""
    first_frame: float = 10.0
    """From opening a live source to its first data, beyond FFmpeg's time-outs."""
    key_frame: float = 150.0
    """From a live source's first data to its first picture: some cameras send a key frame every 70 s only."""
    recorded_silence: float = 60.0
    """Without a sign of life while a recording is read: disks that have to spin up, drives in the network."""
    grace: float = 1.0
    """For workers to exit after they were asked to; then they are killed."""
    damage_told: float = 10.0
    """Between two warnings of damage in one stream."""
