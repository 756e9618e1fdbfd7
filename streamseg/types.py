"""The words of the house: what travels from a source to an output.

    source -> StreamInfo, Frame -> FrameBatch -> Instances -> FrameResult -> output

Everything here is small, frozen and free of torch, so that decode workers and subscribers can use
it. Coordinates are in source pixels, x to the right and y down, the origin at the upper left corner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamseg.masks.rle import RunLengths, decode_mask

if TYPE_CHECKING:
    from streamseg.errors import SourceError

RESULT_VERSION = 1


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
    """Id of the stream, ``[A-Za-z0-9_.-]{1,64}``."""
    url: str
    """What was opened, credentials included: never show it unmasked."""
    policy: FramePolicy
    epoch: int
    """0 at first, one more after every reconnect."""
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


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Frame:
    """One decoded picture. Whoever holds its ``pixels`` keeps its slot of the frame ring."""

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


BUSY = "busy"
"""Why a live frame is dropped: no room for it in the frame ring, or no time to decode it."""
SUPERSEDED = "superseded"
"""Why a live frame is dropped: a newer one came while it waited for the model."""
LATE = "late"
"""Why a live frame is dropped: it had become too old when its turn came."""
GIVEN_UP = "given up"
"""Why any frame is dropped: the run was stopped and had to end before the model got to it."""


@dataclass(frozen=True, slots=True)
class FramesDropped:
    """``count`` frames that will never be processed."""

    stream: str
    reason: str
    """One of :data:`BUSY`, :data:`SUPERSEDED`, :data:`LATE` and :data:`GIVEN_UP`."""
    count: int


class StreamState(Enum):
    """Where a stream stands."""

    CONNECTING = "connecting"
    """Its source is being opened, or waited for until the next attempt."""
    LIVE = "live"
    """Frames come."""
    STALLED = "stalled"
    """A camera that was live gives no frame any more; its decode worker is being replaced."""
    ENDED = "ended"
    """No more frames will come, and nothing is wrong: the end of a file, or it was told to stop."""
    FAILED = "failed"
    """No more frames will come: a file that cannot be read on, a camera that was given up."""


@dataclass(frozen=True, slots=True)
class FramesDamaged:
    """What was wrong inside a recording that was read on nevertheless; told once, before its end."""

    stream: str
    lost: int
    """Frames that could not be decoded: they have no number and no result."""
    concealed: int
    """Frames that the decoder patched up: they have a result like any other."""


@dataclass(frozen=True, slots=True)
class StreamChanged:
    """A stream is in another state now, or an attempt to open it has failed once more."""

    stream: str
    state: StreamState
    error: SourceError | None = None
    """What went wrong last, also if all is well again; None while nothing has."""
    reconnects: int = 0
    """How often the stream was opened again so far."""

    @property
    def over(self) -> bool:
        """Whether this is the last event of the stream."""
        return self.state in {StreamState.ENDED, StreamState.FAILED}


SourceEvent = StreamInfo | Frame | FramesDropped | FramesDamaged | StreamChanged


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of any streams that the network takes together, each stream's in order."""

    frames: tuple[Frame, ...]

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError("a batch needs at least one frame")


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """The objects found in one image, best score first (N of them; N may be 0)."""

    height: int
    width: int
    class_ids: NDArray[np.int64]
    """(N,) indices into the model's class names."""
    labels: tuple[str, ...]
    """N class names."""
    scores: NDArray[np.float32]
    """(N,) in [0, 1]."""
    boxes: NDArray[np.int64]
    """(N, 4) x1, y1, x2, y2, tight around the mask, x2 and y2 exclusive."""
    crops: tuple[NDArray[np.bool_], ...]
    """N masks, each (y2 - y1, x2 - x1), the part of the full mask inside its box."""
    ids: tuple[int | None, ...] = ()
    """N track ids, unique in the frame; None each (or empty) without tracking."""

    def __post_init__(self) -> None:
        n = len(self.labels)
        if not (len(self.class_ids) == len(self.scores) == len(self.boxes) == len(self.crops) == n):
            raise ValueError("class_ids, labels, scores, boxes and crops must have one length")

    def __len__(self) -> int:
        return len(self.labels)

    def masks(self) -> NDArray[np.bool_]:
        """Full masks, (N, height, width) bool. Costs N full frames of memory."""
        full = np.zeros((len(self), self.height, self.width), dtype=np.bool_)
        for mask, (x1, y1, x2, y2), crop in zip(full, self.boxes, self.crops, strict=True):
            mask[y1:y2, x1:x2] = crop
        return full


class InstanceResult(msgspec.Struct, frozen=True):
    """One object of a :class:`FrameResult`."""

    id: int | None
    """Stable for one object within stream and epoch; None without tracking."""
    label: str
    class_id: int
    score: float
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in source pixels, tight around the mask, x2 and y2 exclusive."""
    area: int
    """Pixels of the mask."""
    rle: RunLengths = msgspec.field(name="mask")

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The decoded mask, (height, width) bool."""
        return decode_mask(self.rle)


class FrameResult(msgspec.Struct, frozen=True):
    """What is said of one frame, version 1: an NDJSON line, a Redis field."""

    v: int
    stream: str
    epoch: int
    frame: int
    """Number among the decoded frames of the stream, from 0."""
    pts: float
    """Seconds on the stream's clock."""
    time: float
    """UNIX seconds when the frame was decoded."""
    width: int
    height: int
    latency_ms: float
    """From decoding to publication."""
    model: str
    instances: tuple[InstanceResult, ...]
    """Best score first."""


class Model(Protocol):
    """What finds instances: :class:`streamseg.Segmenter`, or anything else that does."""

    name: str
    classes: tuple[str, ...]
    """Names of all it knows."""

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Size at which a picture enters the network: pictures of one canvas make a batch."""

    def submit(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        """Start a batch of pictures, each (H, W, 3) uint8 RGB; the answer is for :meth:`collect`."""

    def collect(self, submitted: Any) -> list[Instances]:
        """Wait for a batch, in another thread: one Instances per picture."""


class Meter(Protocol):
    """What measures a run while it goes on. All methods in any thread."""

    def batch(self, size: int) -> None:
        """A batch of ``size`` frames goes to the network."""

    def stage(self, name: str, seconds: float) -> None:
        """A piece of work took so long; ``name`` is that of the stage."""


class Output(Protocol):
    """Where results go. Each output lives in one thread of its own behind a bounded queue."""

    needs_pixels: bool
    """Whether ``write`` is given the frame and its instances (a backlog of pictures is kept short)."""

    def check(self, streams: Sequence[str]) -> None:
        """Before anything is processed: can the results of these streams be written? Raises UsageError."""

    def open(self, info: StreamInfo) -> None:
        """Prepare for a stream, or for its next epoch. Raises OutputError or UsageError."""

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Hand on one frame's result; results of a stream come in order. Raises OutputError.

        ``frame`` and ``instances`` are None unless :attr:`needs_pixels`.
        """

    def close(self, stream: str, *, complete: bool) -> None:
        """Finish a stream; not ``complete`` when its source failed. Raises OutputError."""

    def shutdown(self) -> None:
        """Let go of everything, after the last stream was closed."""


EmitEvent = Callable[[SourceEvent], None]
