"""Streams, their frames, and the batches that the network takes."""

from __future__ import annotations

import time as clocks
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


class FramePolicy(Enum):
    """What happens to frames that come faster than they can be processed."""

    EVERY_FRAME = "every_frame"
    """Recorded files: the decoder waits, no frame is lost."""
    NEWEST_FRAME = "newest_frame"
    """Live sources: the newest frame wins, older ones are dropped and counted."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known of a stream once it is open; a live source opens again at every reconnect."""

    stream: str
    """Id of the stream, see :mod:`streamseg.types.ids`."""
    url: str
    """What was opened, credentials included: never show it unmasked."""
    policy: FramePolicy
    epoch: int
    """:attr:`first_epoch` at first, one more after every reconnect."""
    width: int
    height: int
    time_base: Fraction
    """Seconds per tick of :attr:`Frame.ticks`."""
    fps: float | None
    """Nominal frames per second, None when the container does not say."""
    frame_count: int | None
    """Selected frames to expect (an estimate, for progress), None when unknown or live."""
    start: float = 0.0
    """Seconds on the stream's clock: where the selected part of a recorded file begins, 0 for all of it."""
    end: float | None = None
    """Seconds on the stream's clock: where the selected part ends (exclusive); None is the end."""
    has_audio: bool = False
    source: str = ""
    """What was opened, as results name it: absolute path, or URL with passwords masked."""
    origin: float = 0.0
    """Seconds on the stream's clock that are second 0 of a recording's overlay, unless ``start`` is."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel as it is shown, divided by its height."""
    reread: bool = True
    """Whether the source can be opened a second time: a pipe cannot."""
    first_epoch: int = 0
    """Of this engine; lower ones are those of engines that had the stream before."""
    claim: int | None = None
    """The epoch with which its owner has claimed the stream, where engines that do not know each other may
    have it in turn; None: nobody else publishes it."""

    @property
    def reconnects(self) -> int:
        """How often this engine has opened it again."""
        return self.epoch - self.first_epoch


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Frame:
    """One decoded picture. Its slot of the frame ring is in use while its ``pixels`` are."""

    stream: str
    epoch: int
    index: int
    """Number among the decoded frames of the stream, from 0; dropped and skipped ones count."""
    ticks: int
    """Presentation time in units of ``time_base``."""
    time_base: Fraction
    time: float
    """UNIX seconds when the frame was decoded."""
    pixels: NDArray[np.uint8]
    """(height, width, 3) uint8 RGB, read-only."""
    decoding: float = 0.0
    """Seconds that decoding took."""
    decoded_at: float = field(default_factory=clocks.monotonic)
    """When the frame was decoded, in seconds of the monotonic clock, which all processes of a machine
    share: ages are measured with it, for the wall clock may be set while the program runs."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel as it is shown, divided by its height."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels must be (height, width, 3) uint8, got {self.pixels.shape} {self.pixels.dtype}"
            )

    @property
    def pts(self) -> float:
        """Presentation time in seconds."""
        return float(self.ticks * self.time_base)

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of any streams that the network takes together, each stream's in order."""

    frames: tuple[Frame, ...]

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError("a batch needs at least one frame")
