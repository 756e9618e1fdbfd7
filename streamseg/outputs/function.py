"""A function of the user's as an output."""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamseg.errors import OutputError, StreamsegError
from streamseg.types import Frame, FrameResult, Instances, Output, Pixels, StreamInfo, StreamWriter

logger = logging.getLogger(__name__)

SinkFunction = Callable[[FrameResult, Frame, Instances], None]
"""Is called with a frame's result, the frame, and the instances that were found in it."""


class FunctionOutput(Output):
    """Calls a function for each frame that has its result; never twice at a time.

    The frame's pixels may be read until the function returns; it copies what it keeps. One that raises an
    exception is not called again for that stream.
    """

    pixels = Pixels.ALWAYS

    def __init__(self, function: SinkFunction) -> None:
        self._function = function
        self._name = getattr(function, "__name__", type(function).__name__)

    def open(self, info: StreamInfo) -> StreamWriter:  # noqa: ARG002
        """All streams share the function."""
        return _FunctionWriter(self._function, self._name)


class _FunctionWriter(StreamWriter):
    def __init__(self, function: SinkFunction, name: str) -> None:
        self._function, self._name = function, name

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        assert frame is not None
        assert instances is not None
        try:
            self._function(result, frame, instances)
        except StreamsegError:
            raise
        except Exception as error:
            logger.debug("%s failed", self._name, exc_info=True)
            raise OutputError(f"{self._name}: {type(error).__name__}: {error}") from error
