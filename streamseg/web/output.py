"""The run's side of the live page: an output that fills a :class:`~streamseg.web.hub.Hub`."""

from collections.abc import Sequence

from streamseg.config import OverlayOptions
from streamseg.types import Frame, FrameResult, Instances, StreamInfo, StreamState
from streamseg.web.hub import Hub, Picture
from streamseg.web.thumbnail import painted_jpeg


class ViewOutput:
    """Shows results on the live page; paints only what somebody looks at, at most 12 times a second."""

    needs_pixels = True
    pixels_optional = True

    def __init__(self, hub: Hub, overlay: OverlayOptions | None = None) -> None:
        """``overlay``: what the pictures show, but for trails."""
        self._hub, self._overlay = hub, overlay

    def check(self, streams: Sequence[str]) -> None:
        """Make all streams known to the page: one that is still connecting is seen, too."""
        for stream in streams:
            self._hub.report(stream)

    def report(self, stream: str, **fields: str | float) -> None:
        """Take notice of what only the pipeline knows (``state``, ``dropped``, ``error``)."""
        self._hub.report(stream, **fields)

    def open(self, info: StreamInfo) -> None:
        """A stream opened, or opened again."""
        self._hub.opened(info)

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Show one frame's result."""
        self._hub.result(result)
        if frame is None or instances is None:
            return
        if (width := self._hub.wanted_width(result.stream)) is not None:
            jpeg = painted_jpeg(frame.pixels, instances, width=width, options=self._overlay)
            self._hub.show(Picture(result, jpeg))

    def close(self, stream: str, *, complete: bool) -> None:
        """Say that the stream has ended, or failed; its last picture stays."""
        state = StreamState.ENDED if complete else StreamState.FAILED
        self._hub.report(stream, state=state.value)

    def shutdown(self) -> None:
        """Nothing is to be let go of."""
