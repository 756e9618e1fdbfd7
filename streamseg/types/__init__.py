"""The types that all packages share: what travels from a source to a writer.

    source -> StreamInfo, Frame -> FrameBatch -> Instances -> FrameResult -> writer

Everything here is small and free of torch, so that decode workers and subscribers can use it.
Coordinates are in source pixels, x to the right and y down, the origin at the upper left corner.
"""

from streamseg.types.events import (
    BUSY,
    DAMAGED,
    GIVEN_UP,
    LATE,
    RATE,
    SUPERSEDED,
    EmitEvent,
    FramesDamaged,
    FramesDropped,
    SourceEvent,
    StreamChanged,
    StreamEnd,
    StreamState,
)
from streamseg.types.frames import Frame, FrameBatch, FramePolicy, StreamInfo
from streamseg.types.instances import Instances
from streamseg.types.results import RESULT_VERSION, FrameResult, InstanceResult, Outvoted
from streamseg.types.stages import Meter, Model, Output, Pixels, ResultDroppedError, StreamWriter, Ticket

__all__ = [
    "BUSY",
    "DAMAGED",
    "GIVEN_UP",
    "LATE",
    "RATE",
    "RESULT_VERSION",
    "SUPERSEDED",
    "EmitEvent",
    "Frame",
    "FrameBatch",
    "FramePolicy",
    "FrameResult",
    "FramesDamaged",
    "FramesDropped",
    "InstanceResult",
    "Instances",
    "Meter",
    "Model",
    "Output",
    "Outvoted",
    "Pixels",
    "ResultDroppedError",
    "SourceEvent",
    "StreamChanged",
    "StreamEnd",
    "StreamInfo",
    "StreamState",
    "StreamWriter",
    "Ticket",
]
