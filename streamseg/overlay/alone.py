"""Masks without the picture that they were found in."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.overlay.paint import paint
from streamseg.results.frame_result import instances_of
from streamseg.types import FrameResult, Instances

_BACKDROP = 40
"""A grey on which every colour of the palette is seen."""


def backdrop(height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB to paint on."""
    return np.full((height, width, 3), _BACKDROP, dtype=np.uint8)


def painted_png(found: Instances | FrameResult) -> bytes:
    """The objects of a picture on grey, with their labels, at the picture's size."""
    instances = instances_of(found) if isinstance(found, FrameResult) else found
    painted = paint(backdrop(found.height, found.width), instances)
    _, png = cv2.imencode(".png", cv2.cvtColor(painted, cv2.COLOR_RGB2BGR))
    return png.tobytes()
