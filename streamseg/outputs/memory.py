"""Results for the program itself: what ``streamseg.run`` iterates over, and tests."""

import queue
import threading

from streamseg.types import Frame, FrameResult, Instances, Output, StreamInfo, StreamWriter

_POLL_SECONDS = 0.1


class MemoryOutput(Output):
    """A bounded queue of results; a full one makes recorded files wait."""

    paced_by_reader = True

    def __init__(self, *, size: int = 64) -> None:
        self._results: queue.Queue[FrameResult | None] = queue.Queue(maxsize=size)
        self._abandoned = threading.Event()

    def open(self, info: StreamInfo) -> StreamWriter:  # noqa: ARG002
        """All streams share the queue."""
        return _MemoryWriter(self)

    def shutdown(self) -> None:
        """Tell the reader that no more will come."""
        self.put(None)

    def get(self) -> FrameResult | None:
        """Wait for the next result; None after the last one."""
        return self._results.get()

    def abandon(self) -> None:
        """Nobody reads any more: let writers through."""
        self._abandoned.set()

    def put(self, item: FrameResult | None) -> None:
        """Put a result into the queue; waits while it is full and somebody still reads it."""
        while not self._abandoned.is_set():
            try:
                self._results.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return


class _MemoryWriter(StreamWriter):
    def __init__(self, output: MemoryOutput) -> None:
        self._output = output

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        self._output.put(result)
