"""The progress bar of recorded files."""

import threading
from types import TracebackType

from tqdm import tqdm

from streamseg.types import FramePolicy, FrameResult, StreamInfo


class Progress:
    """Counts results against the frames that the opened files promise; live streams have no total."""

    def __init__(self, *, show: bool) -> None:
        self._bar = tqdm(total=0, unit="frame", disable=not show, smoothing=0.1, dynamic_ncols=True)
        self._lock = threading.Lock()
        self._endless = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, frames: int) -> None:
        """So many more frames have their result; any thread."""
        with self._lock:
            self._bar.update(frames)

    def observe(self, event: StreamInfo | FrameResult) -> None:
        """Hear of a stream's opening or of a result; any thread."""
        with self._lock:
            if isinstance(event, FrameResult):
                self._bar.update()
            elif event.policy is FramePolicy.NEWEST_FRAME or event.frame_count is None:
                self._endless, self._bar.total = True, None
            elif not self._endless:
                self._bar.total = (self._bar.total or 0) + event.frame_count
                self._bar.refresh()
