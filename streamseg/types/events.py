"""What a source tells of its stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from streamseg.types.frames import Frame, StreamInfo

if TYPE_CHECKING:
    from streamseg.errors import SourceError

BUSY = "busy"
"""Why a live frame is dropped: no room for it in the frame ring, or no time to decode it."""
SUPERSEDED = "superseded"
"""Why a live frame is dropped: a newer one came while it waited for the model."""
LATE = "late"
"""Why a live frame is dropped: it had become too old when its turn came."""
DAMAGED = "damaged"
"""Why a live frame is dropped: it was patched up or packets were lost before it, and it is not to be kept."""
RATE = "rate"
"""Why a live frame is dropped: the stream has a ``max_fps``, and more frames come than that."""
GIVEN_UP = "given up"
"""Why any frame is dropped: the run was stopped and had to end before the model got to it."""


@dataclass(frozen=True, slots=True)
class FramesDropped:
    """``count`` frames that will never be processed."""

    stream: str
    reason: str
    """One of :data:`BUSY`, :data:`SUPERSEDED`, :data:`LATE`, :data:`DAMAGED`, :data:`RATE` and
    :data:`GIVEN_UP`."""
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


class StreamEnd(Enum):
    """How a stream came to its end, as its writers are told."""

    ENDED = "ended"
    """All of it was processed; or it was live, and the run or the stream was stopped."""
    STOPPED = "stopped"
    """A recorded stream was stopped by the user: its source has more to give."""
    FAILED = "failed"
    """Its source could not be read on, or an output could not write it."""


@dataclass(frozen=True, slots=True)
class FramesDamaged:
    """More damage was found: of a recording once, before its end; of a live stream as it comes."""

    stream: str
    lost: int
    """Frames of a recording that could not be decoded: they have no number and no result."""
    concealed: int
    """Frames that the decoder patched up, or before which packets were lost: they have a result like any
    other, unless they are dropped for it."""
    packets: int = 0
    """Packets of a live stream that did not come."""


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


EmitEvent = Callable[[SourceEvent], None]
