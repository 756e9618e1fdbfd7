"""The run's side of the live page: an output that fills a :class:`~streamseg.web.hub.Hub`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamseg.config import OverlayOptions
from streamseg.types import (
    Frame,
    FrameResult,
    Instances,
    Output,
    Pixels,
    StreamEnd,
    StreamInfo,
    StreamState,
    StreamWriter,
)
from streamseg.web.hub import Hub, Picture
from streamseg.web.thumbnail import painted_jpeg
from streamseg.zones import StreamRules


class ViewOutput(Output):
    """Shows results on the live page; paints only what somebody looks at, at most 12 times a second."""

    pixels = Pixels.RECENT

    def __init__(
        self,
        hub: Hub,
        overlay: OverlayOptions | None = None,
        rules: Callable[[str], StreamRules | None] = lambda _: None,
    ) -> None:
        """``overlay``: what the pictures show, but for trails; ``rules``: those of a stream."""
        self._hub, self._overlay, self._rules = hub, overlay, rules

    def check(self, streams: Sequence[str]) -> None:
        """Make all streams known to the page: one that is still connecting is seen, too."""
        for stream in streams:
            self._hub.report(stream)

    def report(self, stream: str, **fields: str | float) -> None:
        """Take notice of what only the run knows (``state``, ``dropped``, ``error``)."""
        self._hub.report(stream, **fields)

    def open(self, info: StreamInfo) -> ViewWriter:
        """Show that the stream is there."""
        return ViewWriter(self._hub, self._overlay, self._rules, info)


class ViewWriter(StreamWriter):
    """Shows one stream."""

    def __init__(
        self,
        hub: Hub,
        overlay: OverlayOptions | None,
        rules: Callable[[str], StreamRules | None],
        info: StreamInfo,
    ) -> None:
        self._hub, self._overlay, self._rules, self._stream = hub, overlay, rules, info.stream
        hub.opened(info)

    def begin_epoch(self, info: StreamInfo) -> None:
        """Show that the camera was opened again."""
        self._hub.opened(info)

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Show one frame's result."""
        self._hub.result(result)
        if frame is None or instances is None:
            return
        if (width := self._hub.wanted_width(result.stream)) is not None:
            jpeg = painted_jpeg(
                frame.pixels,
                instances,
                width=width,
                options=self._overlay,
                rules=self._rules(self._stream),
                counts=result.counts,
            )
            self._hub.show(Picture(result, jpeg))

    def close(self, end: StreamEnd) -> None:
        """Say that the stream has ended; its last picture stays. Of a failure the run itself tells."""
        if end is not StreamEnd.FAILED:
            self._hub.report(self._stream, state=StreamState.ENDED.value)
