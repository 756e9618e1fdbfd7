"""From a decoded frame to the RGB pixels that the network and the viewer see: as the picture is meant."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from streamseg.sources.hdr import ToneMapper, is_hdr
from streamseg.sources.orientation import Orientation

UNTAGGED = 2
"""FFmpeg's AVCOL_SPC_UNSPECIFIED: the video does not say how its colours were made."""
HD_WIDTH, HD_HEIGHT = 1280, 720
"""From this width or height on, players take untagged video for BT.709, below for BT.601."""


class PictureWriter:
    """Converts frames to RGB, all of the size of the first one, the right way up and on black.

    One scaler is kept for the whole stream: building one per frame costs half as much again as the
    conversion. It follows each frame's own colour range and matrix.
    """

    def __init__(self, first: VideoFrame, *, threads: int = 1) -> None:
        """``first`` gives size and orientation; ``threads`` share the conversion of one frame."""
        self._threads = threads
        self._coded = (first.width, first.height)
        self._orientation = Orientation.of(first)
        self.width, self.height = self._orientation.size(*self._coded)
        self._reformatter = VideoReformatter()
        self._tone_mapper: ToneMapper | None = None

    @property
    def turned(self) -> bool:
        """Whether rows became columns."""
        return self._orientation.transposed

    def fits(self, frame: VideoFrame) -> bool:
        """Whether the frame has the size of the first one."""
        return (frame.width, frame.height) == self._coded

    def write(self, frame: VideoFrame, picture: NDArray[np.uint8]) -> None:
        """Fill ``picture``, (height, width, 3) uint8, with a frame of the first one's size."""
        if is_hdr(frame):
            self._tone_mapper = self._tone_mapper or ToneMapper(frame)
            frame = self._tone_mapper(frame)
        pixels = self._on_black(frame) if _has_alpha(frame.format) else self._convert(frame, "rgb24")
        np.copyto(picture, self._orientation.apply(pixels))

    def _on_black(self, frame: VideoFrame) -> NDArray[np.uint8]:
        pixels = self._convert(frame, "rgba")
        alpha = pixels[..., 3:].astype(np.uint16)
        return ((pixels[..., :3] * alpha + 127) // 255).astype(np.uint8)

    def _convert(self, frame: VideoFrame, layout: str) -> NDArray[np.uint8]:
        """(height, width, channels) in the buffer of the converted frame."""
        converted = self._reformatter.reformat(
            frame, format=layout, src_colorspace=_colour_matrix(frame), threads=self._threads
        )
        plane: Any = converted.planes[0]  # a buffer, which its type stub does not say
        channels = 4 if layout == "rgba" else 3
        shape, strides = (frame.height, frame.width, channels), (plane.line_size, channels, 1)
        return np.ndarray(shape, np.uint8, buffer=plane, strides=strides)


def _has_alpha(layout: VideoFormat) -> bool:
    return layout.has_palette or any(component.is_alpha for component in layout.components)


def _colour_matrix(frame: VideoFrame) -> Colorspace | None:
    """How the frame's YUV is to be turned into RGB; None for as its tags say."""
    if frame.colorspace != UNTAGGED or frame.format.is_rgb:
        return None
    hd = frame.width >= HD_WIDTH or frame.height >= HD_HEIGHT
    return Colorspace.ITU709 if hd else Colorspace.ITU601
