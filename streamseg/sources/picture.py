"""From a decoded frame to RGB pixels at one size, the right way up. Runs in the decode worker."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


class PictureWriter:
    """Converts frames to RGB, all at the size of the first one.

    One scaler is kept for the whole stream: building one per frame costs half as much again as the
    conversion. It follows each frame's own colour range and matrix.
    """

    def __init__(self, first: VideoFrame, *, threads: int = 1) -> None:
        """``first`` gives size and orientation; ``threads`` share the conversion of one frame."""
        self._threads = threads
        self._size = (first.width, first.height)
        # Telephones store pictures as the sensor lies and say by how much to turn them.
        self._quarter_turns = round(first.rotation / 90) % 4
        self._reformatter = VideoReformatter()

    @property
    def width(self) -> int:
        """Columns after turning."""
        return self._size[self._quarter_turns % 2]

    @property
    def height(self) -> int:
        """Rows after turning."""
        return self._size[1 - self._quarter_turns % 2]

    def fits(self, frame: VideoFrame) -> bool:
        """Whether the frame has the size of the first one."""
        return (frame.width, frame.height) == self._size

    def write(self, frame: VideoFrame, picture: NDArray[np.uint8]) -> None:
        """Fill ``picture``, (height, width, 3) uint8; a frame of another size is scaled."""
        width, height = self._size
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", threads=self._threads
        )
        plane: Any = rgb.planes[0]  # a buffer, which its type stub does not say
        pixels = np.ndarray((height, width, 3), np.uint8, buffer=plane, strides=(plane.line_size, 3, 1))
        np.copyto(picture, np.rot90(pixels, self._quarter_turns))
