"""Results for the program itself: what ``streamseg.run`` iterates over, and tests."""

import queue
import threading
from collections.abc import Sequence

from streamseg.types import Frame, FrameResult, Instances, StreamInfo

_POLL_SECONDS = 0.1


class MemoryOutput:
    """A bounded queue of results; a full one makes recorded files wait."""

    needs_pixels = False
    reader_paced = True

    def __init__(self, *, size: int = 64) -> None:
        self._results: queue.Queue[FrameResult | None] = queue.Queue(maxsize=size)
        self._abandoned = threading.Event()

    def check(self, streams: Sequence[str]) -> None:
        """There is always room."""

    def open(self, info: StreamInfo) -> None:
        """Nothing to prepare."""

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        """Put a result into the queue; waits while it is full and somebody still reads it."""
        self._put(result)

    def close(self, stream: str, *, complete: bool) -> None:
        """Nothing to finish."""

    def shutdown(self) -> None:
        """Tell the reader that no more will come."""
        self._put(None)

    def get(self) -> FrameResult | None:
        """Wait for the next result; None after the last one."""
        return self._results.get()

    def abandon(self) -> None:
        """Nobody reads any more: let writers through."""
        self._abandoned.set()

    def _put(self, item: FrameResult | None) -> None:
        while not self._abandoned.is_set():
            try:
                self._results.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return
