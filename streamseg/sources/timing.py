"""How long things may take, and when to try again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential back-off with jitter, so that fifty cameras do not all come back in one moment."""

    first: float = 1.0
    """Seconds before the first new attempt."""
    longest: float = 30.0
    """Seconds that the delay grows to, doubling."""
    jitter: float = 0.2
    """Fraction by which a delay is lengthened or shortened at random."""

    def delay(self, failures: int, draw: float) -> float:
        """Seconds to wait after this many failures in a row (>= 1); ``draw`` is random in [0, 1)."""
        # 2**30 is beyond every delay; more would overflow after a weekend without network.
        plain = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return plain * (1 + self.jitter * (2 * draw - 1))


@dataclass(frozen=True, slots=True)
class Timing:
    """Limits of the parent's patience, in seconds."""

    connect_retry: float = 2.0
    """Longest delay between two attempts to reach a live source that never delivered."""
    silence: float = 5.0
    """Without a sign of life from a worker, beyond the time-outs of the source it reads."""
    recorded_silence: float = 60.0
    """The same while a recording is read: disks that have to spin up, drives in the network."""
    grace: float = 1.0
    """For workers to go after they were asked to; then they are killed."""
