"""Which way up a picture is meant: telephones store it as the sensor lies and say how it is to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

EXIF = 31
"""FFmpeg's AV_FRAME_DATA_EXIF, which PyAV does not know: it refuses to show any side data beside it."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways a rectangle can lie: rows and columns exchanged first, then mirrored."""

    transposed: bool = False
    mirrored: bool = False
    """Left and right exchanged."""
    upside_down: bool = False
    """Top and bottom exchanged."""

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """What the display matrix of a frame says; turns that are no multiple of 90 degrees are rounded."""
        matrix = _display_matrix(frame)
        if matrix is None:
            return cls()
        (a, b), (c, d) = matrix[:2, :2].tolist()  # (x, y) is shown at (a x + c y, b x + d y)
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a picture as it is shown."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A view of ``pixels``, (H, W, 3), as they are shown."""
        shown = pixels.transpose(1, 0, 2) if self.transposed else pixels
        return shown[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


def _display_matrix(frame: VideoFrame) -> NDArray[np.int32] | None:
    """(3, 3) int32 in FFmpeg's layout; None if the frame has none."""
    try:
        entry: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        entry = _without_exif(frame).side_data.get("DISPLAYMATRIX")
    return None if entry is None else np.frombuffer(entry, np.int32).reshape(3, 3)


def _without_exif(frame: VideoFrame) -> VideoFrame:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(
        source, graph.add("sidedata", f"mode=delete:type={EXIF}"), graph.add("buffersink")
    ).configure()
    graph.push(frame)
    pulled = graph.pull()
    assert isinstance(pulled, VideoFrame)
    return pulled
